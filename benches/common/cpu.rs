//! CPU time of processes.

/// Microseconds of CPU, user and system, of a whole process so far. Linux counts in ticks of 10 ms.
pub(crate) fn cpu_micros(process: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("Linux tells a process's times");
    // The name, in parentheses, may hold spaces.
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks * 10_000
}
