//! The order of restoring, from declared dependencies.

use alloc::vec;
use alloc::vec::Vec;

use crate::error::Error;
use crate::state::Desc;

/// What of a subsystem plays a part in the order.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Its name.
    pub name: &'static str,
    /// Names of those that come before it.
    pub after: &'static [&'static str],
    /// Its states, whose ids nobody else may have.
    pub states: &'static [Desc],
}

/// Indices into `nodes` in an order in which each comes after those that it names; where that leaves a choice, the order
/// of `nodes` stays.
///
/// # Errors
///
/// [`Error::SubsystemTwice`], [`Error::IdTwice`], [`Error::DependsOnNobody`], [`Error::DependencyCycle`].
pub fn order(nodes: &[Node]) -> Result<Vec<usize>, Error> {
    let mut seen: Vec<&Desc> = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        let name = node.name;
        if nodes[..i].iter().any(|other| other.name == name) {
            return Err(Error::SubsystemTwice { name });
        }
        for desc in node.states {
            if let Some(other) = seen.iter().find(|other| other.id == desc.id) {
                return Err(Error::IdTwice {
                    id: desc.id,
                    a: other.name,
                    b: desc.name,
                });
            }
            seen.push(desc);
        }
        let nobody = |on: &&&str| !nodes.iter().any(|other| other.name == **on);
        if let Some(on) = node.after.iter().find(nobody) {
            return Err(Error::DependsOnNobody { name, on });
        }
    }

    let mut placed = vec![false; nodes.len()];
    let mut order = Vec::with_capacity(nodes.len());
    while order.len() < nodes.len() {
        let ready = |&i: &usize| {
            let done = |on: &&str| {
                let mut all = nodes.iter().zip(&placed);
                all.any(|(other, &placed)| placed && other.name == *on)
            };
            !placed[i] && nodes[i].after.iter().all(done)
        };
        let Some(next) = (0..nodes.len()).find(ready) else {
            return Err(Error::DependencyCycle {
                name: in_circle(nodes, &placed),
            });
        };
        placed[next] = true;
        order.push(next);
    }
    Ok(order)
}

/// The name of a node that depends on itself, where some of those not `placed` do.
fn in_circle(nodes: &[Node], placed: &[bool]) -> &'static str {
    let waits = |name: &str| {
        let mut all = nodes.iter().zip(placed);
        all.find(|(node, placed)| !**placed && node.name == name)
            .map(|(node, _)| node)
    };
    let mut node = nodes.iter().zip(placed).find(|(_, placed)| !**placed);
    // Each that waits, waits for one that does: after as many steps as there are nodes, the way is in a circle.
    let mut at = node.take().map_or("", |(node, _)| node.name);
    for _ in 0..nodes.len() {
        let next = waits(at).and_then(|node| node.after.iter().find(|on| waits(on).is_some()));
        at = next.copied().unwrap_or(at);
    }
    at
}
