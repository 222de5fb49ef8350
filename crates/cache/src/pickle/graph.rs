//! What a pickle builds, while it does: values that name each other, a stack of them, marks on the
//! stack, and the names by which values are recalled.

use std::collections::HashMap;

use super::{Data, MAX_DEPTH, MAX_NODES, PickleError};

/// A value under construction: others are named by their index, so that a list may be remembered
/// before it is filled.
pub(super) enum Node {
    Leaf(Data),
    List(Vec<usize>),
    Tuple(Vec<usize>),
    Dict(Vec<(usize, usize)>),
}

#[derive(Default)]
pub(super) struct Graph {
    nodes: Vec<Node>,
    stack: Vec<usize>,
    marks: Vec<usize>,
    memo: HashMap<u32, usize>,
}

impl Graph {
    /// What was built under `root`, as data of its own.
    pub(super) fn unfold(&self, root: usize) -> Result<Data, PickleError> {
        let mut left = MAX_NODES;
        unfold(&self.nodes, root, 0, &mut left)
    }

    pub(super) fn mark(&mut self) {
        self.marks.push(self.stack.len());
    }

    /// Takes so many off the stack.
    pub(super) fn last(&mut self, count: usize) -> Result<Vec<usize>, PickleError> {
        let at = self.stack.len().checked_sub(count).ok_or(PickleError::Broken)?;
        Ok(self.stack.split_off(at))
    }

    /// Takes what is above the last mark, as keys and values.
    pub(super) fn marked_pairs(&mut self) -> Result<Vec<(usize, usize)>, PickleError> {
        pairs(&self.marked()?)
    }

    pub(super) fn leaf(&mut self, data: Data) {
        self.node(Node::Leaf(data));
    }

    pub(super) fn node(&mut self, node: Node) {
        self.stack.push(self.nodes.len());
        self.nodes.push(node);
    }

    pub(super) fn pop(&mut self) -> Result<usize, PickleError> {
        self.stack.pop().ok_or(PickleError::Broken)
    }

    pub(super) fn marked(&mut self) -> Result<Vec<usize>, PickleError> {
        let mark = self.marks.pop().ok_or(PickleError::Broken)?;
        if mark > self.stack.len() {
            return Err(PickleError::Broken);
        }
        Ok(self.stack.split_off(mark))
    }

    pub(super) fn list(&mut self) -> Result<&mut Vec<usize>, PickleError> {
        let top = self.stack.last().and_then(|top| self.nodes.get_mut(*top));
        match top {
            Some(Node::List(items)) => Ok(items),
            _ => Err(PickleError::Broken),
        }
    }

    pub(super) fn dict(&mut self) -> Result<&mut Vec<(usize, usize)>, PickleError> {
        let top = self.stack.last().and_then(|top| self.nodes.get_mut(*top));
        match top {
            Some(Node::Dict(pairs)) => Ok(pairs),
            _ => Err(PickleError::Broken),
        }
    }

    /// Gives what is on top a name.
    pub(super) fn remember(&mut self, name: u32) -> Result<(), PickleError> {
        self.memo.insert(name, self.top()?);
        Ok(())
    }

    /// Gives it the next number for a name.
    pub(super) fn memoize(&mut self) -> Result<(), PickleError> {
        let name = u32::try_from(self.memo.len()).map_err(|_| PickleError::Broken)?;
        self.remember(name)
    }

    /// Puts what has the name on top.
    pub(super) fn recall(&mut self, name: u32) -> Result<(), PickleError> {
        let named = self.memo.get(&name).ok_or(PickleError::Broken)?;
        self.stack.push(*named);
        Ok(())
    }

    fn top(&self) -> Result<usize, PickleError> {
        self.stack.last().copied().ok_or(PickleError::Broken)
    }
}

fn pairs(items: &[usize]) -> Result<Vec<(usize, usize)>, PickleError> {
    let pairs = items.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(PickleError::Broken);
    }
    Ok(pairs.map(|pair| (pair[0], pair[1])).collect())
}

fn unfold(nodes: &[Node], at: usize, depth: usize, left: &mut usize) -> Result<Data, PickleError> {
    if depth > MAX_DEPTH {
        return Err(PickleError::Deep);
    }
    let cost = match &nodes[at] {
        Node::Leaf(Data::Text(text)) => 1 + text.len() / 64,
        Node::Leaf(Data::Bytes(bytes)) => 1 + bytes.len() / 64,
        _ => 1,
    };
    *left = left.checked_sub(cost).ok_or(PickleError::Unfolds)?;
    let mut each = |at: &usize| unfold(nodes, *at, depth + 1, left);
    Ok(match &nodes[at] {
        Node::Leaf(data) => data.clone(),
        Node::List(items) => Data::List(items.iter().map(each).collect::<Result<_, _>>()?),
        Node::Tuple(items) => Data::Tuple(items.iter().map(each).collect::<Result<_, _>>()?),
        Node::Dict(pairs) => {
            let pair = |(key, value): &(usize, usize)| Ok((each(key)?, each(value)?));
            Data::Dict(pairs.iter().map(pair).collect::<Result<_, _>>()?)
        }
    })
}
