//! All unsafe code: shared memory, fd passing, socket options, privileges, exec.
