"""Django's command line for the bench's peer site, to look at it by hand."""

import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "boxoffice_django.settings")
execute_from_command_line(sys.argv)
