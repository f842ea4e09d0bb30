//! Keeps the C heap from holding what the budgets have given back: pages of many sizes come and go on every core, and
//! glibc keeps each core's freed pieces for itself.
//!
//! Called by the thread that starts the worker and by the control thread; never by a core.
#![expect(unsafe_code, reason = "mallopt and malloc_trim are C calls")]

/// Whole pages of 1 MiB go back to the kernel when they are freed, instead of growing a core's heap.
const MMAP_THRESHOLD_BYTES: i32 = 512 << 10;

/// Fixes the threshold, which glibc otherwise raises to 32 MiB by itself. To be called before any core starts.
pub(crate) fn configure() {
    // SAFETY: mallopt only sets a number inside the allocator, and is safe to call at any time.
    let set = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES) };
    if set == 0 {
        tracing::debug!("mallopt refused the mmap threshold: freed pages may stay resident longer");
    }
}

/// Gives freed pieces of all heaps back to the kernel.
pub(crate) fn give_back() {
    // SAFETY: malloc_trim takes the allocator's own locks and touches only free memory.
    unsafe { libc::malloc_trim(0) };
}
