//! One macro for each level, and those for places that may want to write often.

/// Writes at a level that is a value.
#[macro_export]
macro_rules! log {
    ($level:expr, $($message:tt)+) => {
        if $crate::error_log::enabled($level) {
            $crate::error_log::write($level, format_args!($($message)+));
        }
    };
}

/// Writes at level `critical`.
#[macro_export]
macro_rules! critical {
    ($($message:tt)+) => { $crate::log!($crate::error_log::Level::Critical, $($message)+) };
}

/// Writes at level `error`.
#[macro_export]
macro_rules! error {
    ($($message:tt)+) => { $crate::log!($crate::error_log::Level::Error, $($message)+) };
}

/// Writes at level `warning`.
#[macro_export]
macro_rules! warning {
    ($($message:tt)+) => { $crate::log!($crate::error_log::Level::Warning, $($message)+) };
}

/// Writes at level `info`.
#[macro_export]
macro_rules! info {
    ($($message:tt)+) => { $crate::log!($crate::error_log::Level::Info, $($message)+) };
}

/// Writes at level `debug`.
#[macro_export]
macro_rules! debug {
    ($($message:tt)+) => { $crate::log!($crate::error_log::Level::Debug, $($message)+) };
}

/// Writes at a level that is a value, from a place that may want to write often (see [`error_log::Limit`]).
#[macro_export]
macro_rules! log_limited {
    ($level:expr, $($message:tt)+) => {{
        static LIMIT: $crate::error_log::Limit = $crate::error_log::Limit::new();
        $crate::error_log::write_limited(&LIMIT, $level, format_args!($($message)+));
    }};
}

/// Writes at level `error` from a place that may want to write often.
#[macro_export]
macro_rules! error_limited {
    ($($message:tt)+) => { $crate::log_limited!($crate::error_log::Level::Error, $($message)+) };
}

/// Writes at level `warning` from a place that may want to write often.
#[macro_export]
macro_rules! warning_limited {
    ($($message:tt)+) => { $crate::log_limited!($crate::error_log::Level::Warning, $($message)+) };
}
