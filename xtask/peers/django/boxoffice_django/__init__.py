"""Boxoffice's pages as a Django team would write them, on boxoffice's own tables."""
