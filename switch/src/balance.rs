//! Which worker receives from what: where a new receiving side goes. Pure.

/// The worker for one more receiving side of a port: one that has the fewest sides of this port, so that its queues are spread,
/// and of these one that has the fewest of all. `all` and `own` are the workers' sides of all ports and of this one.
pub fn place(all: &[usize], own: &[usize]) -> usize {
    let of_port = |worker: usize| own.get(worker).copied().unwrap_or(0);
    let least = all.iter().enumerate().min_by_key(|(worker, sides)| (of_port(*worker), **sides));
    least.map_or(0, |(worker, _)| worker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_sides_go_round_the_workers() {
        let (mut all, mut own) = ([2, 0, 1], [0; 3]);
        let placed = [0; 5].map(|_| {
            let worker = place(&all, &own);
            all[worker] += 1;
            own[worker] += 1;
            worker
        });
        assert_eq!(placed, [1, 2, 0, 1, 2]);
        assert_eq!(place(&[], &[]), 0);
    }
}
