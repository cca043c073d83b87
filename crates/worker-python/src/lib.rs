//! The abi3 extension of a Python worker: bridge to WSGI.
