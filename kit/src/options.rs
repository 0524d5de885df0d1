//! The options of an adapter, declared once.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

/// A type that an option can have, and how a URL spells its values.
pub trait OptionValue: Sized {
    /// What the option takes, for the error about a value that it does not take.
    fn expects() -> String;

    /// The value that `text` spells.
    fn parse(text: &str) -> Option<Self>;

    /// Whether the option takes this value, which may come from a setter.
    fn is_valid(&self) -> bool {
        true
    }
}

/// What the setter of an option takes, besides a value of the option's own type.
pub trait IntoOption<T> {
    /// The value of the option.
    fn into_option(self) -> T;
}

/// How often something is done, or that it is not done at all.
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
    /// Never.
    pub const OFF: Self = Self(None);

    /// Every `duration`, which is longer than zero.
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

/// How long to wait: longer than zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(Duration);

impl Timeout {
    /// As a duration.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

/// A password. `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The password as it is.
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
    /// How an adapter lays out its entries.
    pub enum Layout {
        /// Larder's own layout: every key, expiry, unique versions where the store can have them.
        #[default]
        "larder" => Larder,
        /// The layout of grammY's adapter for the same store, read and written as grammY does.
        "grammy" => Grammy,
    }
}

crate::choices! {
    /// How an adapter stores values.
    pub enum ValueFormat {
        /// Any bytes, as they are.
        #[default]
        "bytes" => Bytes,
        /// JSON only, in a form that the tools of the store can read.
        "json" => Json,
    }
}

/// The permissions of new files: their owner reads and writes them, and there are no execute bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions(u32);

impl Permissions {
    /// As the bits of a Unix mode.
    #[must_use]
    pub const fn mode(self) -> u32 {
        self.0
    }
}

impl OptionValue for Interval {
    fn expects() -> String {
        format!("off, or {POSITIVE_DURATION}")
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
        "the mode of a new file in octal, from 0600 to 0666, such as 0640 or 0660".to_owned()
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

const POSITIVE_DURATION: &str = "a duration with a unit, such as 500ms, 60s or 5m, that is longer than zero";

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
    bool: "true or false", |text: &str| text.parse().ok();
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

/// Declares an enum that an option takes, and how a URL spells its variants.
///
/// For an example see [`config!`](crate::config). `ALL` has each variant with its spelling.
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
            /// How often.
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
    fn intervals() {
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
    fn permissions() {
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
        assert_eq!(error.message(), "the option `number` takes a whole number");
        assert_eq!(Config::OPTIONS.len(), 3);
        assert_eq!(parse("number=7").unwrap().number(8).number, Some(8));
    }
}
