//! Asking for memory before it is needed.

/// Has the processor fetch the cache line at the beginning of a value, for reading or writing, and does not wait for it.
/// Without effect where there is no such instruction that stable Rust knows.
#[inline(always)]
pub fn prefetch<T: ?Sized>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE, which has the instruction, is part of x86_64. It is a hint: it changes nothing that a program can
        // see and faults on no address, and this one is that of a value.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the reference: to nothing, to one past an array's end, to something without a known size.
    #[test]
    fn any_value_may_be_asked_for_and_stays_as_it_is() {
        let values = [[7u64; 8]; 4];
        prefetch(&());
        prefetch(&values[4..]);
        prefetch("");
        prefetch::<dyn std::fmt::Debug>(&values);
        values.iter().for_each(prefetch);
        assert_eq!(values, [[7; 8]; 4]);
    }
}
