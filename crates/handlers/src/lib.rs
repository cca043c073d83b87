//! Originate a response: static files, the application, fixed answers and error pages.
#![forbid(unsafe_code)]

pub mod app;

pub mod dav;

pub mod files;

pub mod fixed;

pub mod mp4;

pub mod special;
