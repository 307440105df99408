//! Memory that the allocator keeps although nobody has it any more.

#![expect(unsafe_code, reason = "the allocator's interface is C")]

/// Gives the calling thread's free memory back to the system. The allocator does it by itself only while it
/// goes on allocating, which a core that has become idle does not.
pub(crate) fn give_back() {
    // SAFETY: it takes a number and may be called at any time.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
