//! The order of restoring, from declared dependencies.

use alloc::vec;
use alloc::vec::Vec;

use super::{Circle, DirectoryError};
use crate::fdt::is_subsystem_name;
use crate::metadata;
use crate::state::Desc;

/// What of a subsystem plays a part in the order.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Its name.
    pub name: &'static str,
    /// Names of those that come before it.
    pub after: &'static [&'static str],
    /// Names of those that come before it, and without which it is not restored.
    pub needs: &'static [&'static str],
    /// Its states, whose ids nobody else may have.
    pub states: &'static [Desc],
}

impl Node {
    /// All that it waits for.
    fn waits_for(&self) -> impl Iterator<Item = &'static str> {
        self.after.iter().chain(self.needs).copied()
    }
}

/// Indices into `nodes` in an order in which each comes after those that it names; where that leaves a choice, the order
/// of `nodes` stays.
///
/// # Errors
///
/// [`DirectoryError`], with the first thing that is wrong.
pub fn order(nodes: &[Node]) -> Result<Vec<usize>, DirectoryError> {
    let mut seen: Vec<&Desc> = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        let name = node.name;
        if !is_subsystem_name(name) {
            return Err(DirectoryError::NoName { name });
        }
        if name == metadata::NAME {
            return Err(DirectoryError::NameTaken { name });
        }
        if nodes[..i].iter().any(|other| other.name == name) {
            return Err(DirectoryError::NameTwice { name });
        }
        for desc in node.states {
            if let Some(other) = seen.iter().find(|other| other.id == desc.id) {
                return Err(DirectoryError::IdTwice {
                    id: desc.id,
                    a: other.name,
                    b: desc.name,
                });
            }
            seen.push(desc);
        }
        let nobody = |on: &&str| !nodes.iter().any(|other| other.name == *on);
        if let Some(on) = node.waits_for().find(nobody) {
            return Err(DirectoryError::DependsOnNobody { name, on });
        }
    }

    let mut placed = vec![false; nodes.len()];
    let mut order = Vec::with_capacity(nodes.len());
    while order.len() < nodes.len() {
        let ready = |&i: &usize| {
            let done = |on: &str| {
                let mut all = nodes.iter().zip(&placed);
                all.any(|(other, &placed)| placed && other.name == on)
            };
            !placed[i] && nodes[i].waits_for().all(done)
        };
        let Some(next) = (0..nodes.len()).find(ready) else {
            return Err(DirectoryError::Cycle {
                circle: in_circle(nodes, &placed),
            });
        };
        placed[next] = true;
        order.push(next);
    }
    Ok(order)
}

/// Nodes that wait for each other, where some of those not `placed` do.
fn in_circle(nodes: &[Node], placed: &[bool]) -> Circle {
    let waiting = |name: &str| {
        let mut all = nodes.iter().zip(placed);
        all.find(|(node, placed)| !**placed && node.name == name)
            .map(|(node, _)| node)
    };
    let next = |name: &&'static str| {
        let node = waiting(name)?;
        node.waits_for().find(|on| waiting(on).is_some())
    };
    let first = nodes.iter().zip(placed).find(|(_, placed)| !**placed);
    // Each that waits, waits for one that does: after as many steps as there are nodes, the way is in a circle.
    let way = core::iter::successors(first.map(|(node, _)| node.name), next);
    let start = way.take(nodes.len() + 1).last().unwrap_or("");
    let around = core::iter::successors(Some(start), next).skip(1);
    Circle::new(core::iter::once(start).chain(around.take_while(|name| *name != start)))
}
