//! Gives freed memory back to the operating system. Apart from the rest, because it takes one call that Rust cannot check.

/// Gives back what the allocator keeps of memory that was freed: with glibc, which by itself gives back only what lies
/// behind the last block in use. Elsewhere it does nothing.
///
/// It takes milliseconds for each hundred MiB, in which threads that allocate wait.
pub fn release() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the function takes no pointer, and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    #[test]
    fn what_lies_before_a_block_in_use_is_given_back() {
        let blocks: Vec<Vec<u8>> = (0..4_000).map(|_| vec![1; 8 << 10]).collect();
        let last = vec![1_u8; 8 << 10];
        drop(blocks);
        let before = resident();

        super::release();

        let after = resident();
        assert!(after + (24 << 20) <= before, "{after} octets after {before}");
        drop(last);
    }

    /// Returns the resident memory of this process, in octets.
    fn resident() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
        let pages: usize = statm.split(' ').nth(1).and_then(|field| field.parse().ok()).expect("a number");
        pages * 4_096
    }
}
