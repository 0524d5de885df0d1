//! The types of options.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

/// The type of an option, and the notation of its values in a URL.
#[diagnostic::on_unimplemented(
    message = "an option of an adapter cannot have the type `{Self}`",
    label = "does not implement `OptionValue`",
    note = "declare an enum with `larder_kit::choices!`, or implement `OptionValue` for the type"
)]
pub trait OptionValue: Sized {
    /// Describes the valid values, for errors. It completes the sentence "the option must be ...".
    fn expects() -> String;

    /// Parses a value in the notation of a URL. Returns `None` if `text` is not valid.
    fn parse(text: &str) -> Option<Self>;

    /// Returns whether the value is valid. It may come from a setter.
    fn is_valid(&self) -> bool {
        true
    }
}

/// The types that the setter of an option accepts, besides the option's own type.
#[diagnostic::on_unimplemented(
    message = "an option of the type `{T}` cannot be set to a `{Self}`",
    label = "expected a `{T}`"
)]
pub trait IntoOption<T> {
    /// Converts the value to the type of the option.
    fn into_option(self) -> T;
}

/// The interval of a repeated task, or `off`.
///
/// ```
/// use std::time::Duration;
/// use larder_kit::{Interval, OptionValue};
///
/// let interval = Interval::parse("5m").unwrap();
/// assert_eq!(Option::from(interval), Some(Duration::from_secs(300)));
/// assert_eq!(Interval::parse("off"), Some(Interval::OFF));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval(Option<Duration>);

impl Interval {
    /// The task never runs.
    pub const OFF: Self = Self(None);

    /// Creates an interval. `duration` must be longer than zero.
    #[must_use]
    pub const fn every(duration: Duration) -> Self {
        Self(Some(duration))
    }
}

impl From<Interval> for Option<Duration> {
    fn from(interval: Interval) -> Self {
        interval.0
    }
}

/// A timeout, which is longer than zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(Duration);

impl Timeout {
    /// Returns the timeout as a duration. A timeout of more than 100 years counts as 100 years, so that it can be added
    /// to the time.
    #[must_use]
    pub const fn get(self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        if self.0.as_secs() < LONGEST.as_secs() { self.0 } else { LONGEST }
    }
}

/// A password. `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Returns the password.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

crate::choices! {
    /// The layout of an adapter's entries.
    pub enum Layout {
        /// Larder's layout. It supports every key, expiry, and unique versions if the store can have them.
        #[default]
        "larder" => Larder,
        /// The layout of grammY's adapter for the same store.
        "grammy" => Grammy,
    }
}

crate::choices! {
    /// The format of an adapter's values.
    pub enum ValueFormat {
        /// Any bytes, stored unchanged.
        #[default]
        "bytes" => Bytes,
        /// JSON only, in a form that the store's tools can read.
        "json" => Json,
    }
}

/// The permissions of new files. The owner can read and write them, and no execute bit is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions(u32);

impl Permissions {
    /// Returns the bits of the Unix mode.
    #[must_use]
    pub const fn mode(self) -> u32 {
        self.0
    }
}

impl OptionValue for Interval {
    fn expects() -> String {
        format!("`off`, or {POSITIVE_DURATION}")
    }

    fn parse(text: &str) -> Option<Self> {
        if text == "off" { Some(Self::OFF) } else { Duration::parse(text).map(Self::every) }
    }

    fn is_valid(&self) -> bool {
        self.0 != Some(Duration::ZERO)
    }
}

impl OptionValue for Timeout {
    fn expects() -> String {
        POSITIVE_DURATION.to_owned()
    }

    fn parse(text: &str) -> Option<Self> {
        Duration::parse(text).map(Self)
    }

    fn is_valid(&self) -> bool {
        !self.0.is_zero()
    }
}

impl OptionValue for Permissions {
    fn expects() -> String {
        "a file mode in octal from 0600 to 0666, such as 0640 or 0660".to_owned()
    }

    fn parse(text: &str) -> Option<Self> {
        let octal = matches!(text.len(), 3 | 4) && text.bytes().all(|byte| byte.is_ascii_digit());
        u32::from_str_radix(text, 8).ok().filter(|_| octal).map(Self)
    }

    fn is_valid(&self) -> bool {
        self.0 & !0o666 == 0 && self.0 & 0o600 == 0o600
    }
}

impl<T: OptionValue> OptionValue for Option<T> {
    fn expects() -> String {
        T::expects()
    }

    fn parse(text: &str) -> Option<Self> {
        T::parse(text).map(Some)
    }

    fn is_valid(&self) -> bool {
        self.as_ref().is_none_or(T::is_valid)
    }
}

const POSITIVE_DURATION: &str = "a duration longer than zero with a unit, such as 500ms, 60s or 5m";

macro_rules! values {
    ($($type:ty: $expects:literal, $parse:expr;)+) => {$(
        impl OptionValue for $type {
            fn expects() -> String {
                $expects.to_owned()
            }

            fn parse(text: &str) -> Option<Self> {
                $parse(text)
            }
        }
    )+};
}

values! {
    bool: "`true` or `false`", |text: &str| text.parse().ok();
    u32: "a whole number", |text: &str| text.parse().ok();
    u64: "a whole number", |text: &str| text.parse().ok();
    usize: "a whole number", |text: &str| text.parse().ok();
    String: "a text", |text: &str| Some(text.to_owned());
    Secret: "a text", |text: &str| Some(Self(text.to_owned()));
    PathBuf: "a path", |text: &str| Some(text.into());
    Duration: "a duration with a unit, such as 500ms, 60s or 5m", |text| humantime::parse_duration(text).ok();
}

macro_rules! conversions {
    ($($from:ty => $into:ty: $convert:expr;)+) => {$(
        impl IntoOption<$into> for $from {
            fn into_option(self) -> $into {
                $convert(self)
            }
        }

        impl IntoOption<Option<$into>> for $from {
            fn into_option(self) -> Option<$into> {
                Some($convert(self))
            }
        }
    )+};
}

conversions! {
    &str => String: str::to_owned;
    &str => PathBuf: PathBuf::from;
    String => PathBuf: PathBuf::from;
    &Path => PathBuf: PathBuf::from;
    &str => Secret: |text: &str| Secret(text.to_owned());
    String => Secret: Secret;
    Duration => Timeout: Timeout;
    Duration => Interval: Interval::every;
    Option<Duration> => Interval: Interval;
    u32 => Permissions: Permissions;
}

impl<T> IntoOption<T> for T {
    fn into_option(self) -> T {
        self
    }
}

impl<T> IntoOption<Option<T>> for T {
    fn into_option(self) -> Option<T> {
        Some(self)
    }
}

/// Declares an enum as the type of an option, with the names of its variants in a URL.
///
/// For an example, see [`config!`](crate::config). The constant `ALL` contains each variant with its name.
#[macro_export]
macro_rules! choices {
    (
        $(#[$outer:meta])*
        $vis:vis enum $name:ident {
            $($(#[$inner:meta])* $text:literal => $variant:ident,)+
        }
    ) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        $vis enum $name {
            $($(#[$inner])* $variant,)+
        }

        impl $name {
            pub(crate) const ALL: &[(&str, Self)] = &[$(($text, Self::$variant)),+];
        }

        impl $crate::OptionValue for $name {
            fn expects() -> String {
                format!("one of: {}", [$($text),+].join(", "))
            }

            fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice)
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use larder_core::ErrorKind;

    use super::*;
    use crate::{Configure, StoreUrl};

    crate::config! {
        /// A configuration.
        #[derive(Debug)]
        struct Config for "example" {}

        options {
            /// The interval.
            sweep: Interval = "off";
            /// A number.
            number: Option<u32>, unset "none";
            /// The permissions.
            permissions: Option<Permissions>, unset "none";
        }
    }

    impl Config {
        fn locate(&mut self, _: &mut StoreUrl) -> crate::Result<()> {
            Ok(())
        }
    }

    fn parse(query: &str) -> crate::Result<Config> {
        Config::from_url(&format!("x:?{query}"))
    }

    #[test]
    fn an_interval_is_off_or_longer_than_zero() {
        assert_eq!(parse("sweep=5m").unwrap().sweep, Interval::every(Duration::from_secs(300)));
        assert_eq!(parse("sweep=off").unwrap().sweep, Interval::OFF);
        for wrong in ["0s", "0ms", "5", "-1s", ""] {
            let error = parse(&format!("sweep={wrong}")).unwrap_err();
            assert!(error.message().contains("longer than zero"), "{wrong}: {error}");
        }
        assert!(Config::new().sweep(Duration::ZERO).check_options().is_err());
        assert!(Config::new().sweep(None).check_options().is_ok());
    }

    #[test]
    fn every_timeout_can_be_added_to_the_time() {
        let now = std::time::Instant::now();
        for text in ["1ns", "30s", "100years", "18446744073709551615s"] {
            assert!(now + Timeout::parse(text).unwrap().get() > now, "{text}");
        }
        assert_eq!(Timeout::parse("90s").unwrap().get(), Duration::from_secs(90));
    }

    #[test]
    fn permissions_are_from_0600_to_0666() {
        let of = |text: &str| parse(&format!("permissions={text}")).map(|config| config.permissions);
        for (text, mode) in
            [("0600", 0o600), ("600", 0o600), ("0660", 0o660), ("0644", 0o644), ("0666", 0o666)]
        {
            assert_eq!(of(text).unwrap(), Some(Permissions(mode)), "{text}");
        }
        for wrong in [
            "", "0", "0400", "0700", "0755", "1600", "4660", "600%20", "%2B600", "0o600", "rw", "00600",
            "0680",
        ] {
            assert_eq!(of(wrong).unwrap_err().kind(), ErrorKind::InvalidConfig, "{wrong}");
        }
        for mode in [0, 0o400, 0o755, 600] {
            assert!(Config::new().permissions(mode).check_options().is_err(), "{mode:o}");
        }
    }

    #[test]
    fn wrong_values_are_not_printed() {
        let error = parse("number=hunter2").unwrap_err();
        assert_eq!(error.message(), "the option `number` must be a whole number");
        assert_eq!(Config::OPTIONS.len(), 3);
        assert_eq!(parse("number=7").unwrap().number(8).number, Some(8));
    }
}
