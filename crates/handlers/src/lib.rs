//! Originate a response: static files, the application.
#![forbid(unsafe_code)]

pub mod app;

pub mod files;
