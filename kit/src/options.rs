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

/// What an option takes that is a time-out, for [`options!`](crate::options).
pub const POSITIVE_DURATION: &str =
    "a duration with a unit, such as 500ms, 60s or 5m, that is longer than zero";

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

/// Declares the options of an adapter: a builder with a field, a default and a setter for each.
///
/// The first block has the builder's fields that are not options. In the second one, each option begins
/// with its name in a URL. `parse` replaces the parser of its type. `if` restricts its values, and is
/// followed by what the option takes, for an error. The names become a constant.
///
/// The builder gets three functions for its own crate: `with_defaults`, which takes the fields that are not
/// options; `take_options`, which sets the options that a [`StoreUrl`](crate::StoreUrl) has; and
/// `check_options`, for values that come from setters.
///
/// ```
/// use std::time::Duration;
/// use larder_kit::{Interval, StoreUrl};
///
/// larder_kit::choices! {
///     /// What happens to a write that finds no room.
///     pub enum WhenFull {
///         /// It fails.
///         #[default]
///         "refuse" => Refuse,
///         /// It replaces the entry that was used the longest time ago.
///         "evict" => Evict,
///     }
/// }
///
/// larder_kit::options! {
///     /// Builds a store.
///     #[derive(Debug)]
///     pub struct Builder {
///         host: String,
///     }
///
///     /// The options of a URL.
///     OPTIONS {
///         /// Holds at most so many entries.
///         "max_entries" => max_entries: u64 = 100, if |entries| *entries > 0 => "a number from 1";
///         /// What happens to a write that finds no room.
///         "when_full" => when_full: WhenFull = WhenFull::Refuse;
///         /// How often expired entries are removed.
///         "sweep" => sweep: Interval = Interval::every(Duration::from_secs(60));
///     }
/// }
///
/// let mut builder = Builder::with_defaults("localhost".to_owned()).max_entries(7);
/// let mut url = StoreUrl::parse("example:?when_full=evict&sweep=5m")?;
/// builder.take_options(&mut url)?;
/// url.finish(OPTIONS)?;
/// assert_eq!((builder.max_entries, builder.when_full), (7, WhenFull::Evict));
///
/// let error = builder.max_entries(0).check_options().unwrap_err();
/// assert!(error.message().contains("`max_entries` takes a number from 1"));
/// # Ok::<(), larder_core::Error>(())
/// ```
#[macro_export]
macro_rules! options {
    (
        $(#[$outer:meta])*
        $vis:vis struct $builder:ident {
            $($extra:ident: $extra_type:ty),* $(,)?
        }

        $(#[$list_doc:meta])*
        $list:ident {
            $(
                $(#[$doc:meta])*
                $option:literal => $field:ident: $type:ty = $default:expr
                    $(, parse $parse:expr)? $(, if $valid:expr => $expects:expr)?;
            )+
        }
    ) => {
        $(#[$outer])*
        $vis struct $builder {
            $(pub(crate) $extra: $extra_type,)*
            $(pub(crate) $field: $type,)+
        }

        $(#[$list_doc])*
        $vis const $list: &[&str] = &[$($option),+];

        impl $builder {
            $(
                $(#[$doc])*
                #[must_use]
                $vis fn $field(mut self, $field: impl $crate::IntoOption<$type>) -> Self {
                    self.$field = $crate::IntoOption::into_option($field);
                    self
                }
            )+

            pub(crate) fn with_defaults($($extra: $extra_type),*) -> Self {
                Self { $($extra,)* $($field: $default,)+ }
            }

            pub(crate) fn take_options(&mut self, url: &mut $crate::StoreUrl) -> $crate::Result<()> {
                $(
                    let parse: fn(&str) -> Option<$type> =
                        $crate::given!([$($parse)?] <$type as $crate::OptionValue>::parse);
                    if let Some(text) = url.take($option)? {
                        let expects = || $crate::given!([$($expects)?] <$type as $crate::OptionValue>::expects());
                        self.$field = parse(&text).ok_or_else(|| $crate::invalid_option($option, expects()))?;
                    }
                )+
                self.check_options()
            }

            pub(crate) fn check_options(&self) -> $crate::Result<()> {
                $(
                    let valid: fn(&$type) -> bool = $crate::given!([$($valid)?] $crate::OptionValue::is_valid);
                    if !valid(&self.$field) {
                        let expects = $crate::given!([$($expects)?] <$type as $crate::OptionValue>::expects());
                        return Err($crate::invalid_option($option, expects));
                    }
                )+
                Ok(())
            }
        }
    };
}

/// Declares an enum that an option takes, and how a URL spells its variants.
///
/// For an example see [`options!`](crate::options). `ALL` has each variant with its spelling.
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

/// The expression in the brackets if there is one, else the one after them.
#[doc(hidden)]
#[macro_export]
macro_rules! given {
    ([] $default:expr) => {
        $default
    };
    ([$given:expr] $default:expr) => {
        $given
    };
}

#[cfg(test)]
mod tests {
    use larder_core::ErrorKind;

    use super::*;
    use crate::StoreUrl;

    options! {
        #[derive(Debug)]
        struct Builder {}

        /// The options.
        OPTIONS {
            /// How often.
            "sweep" => sweep: Interval = Interval::OFF;
            /// A number.
            "n" => number: Option<u32> = None;
            /// The permissions.
            "permissions" => permissions: Option<Permissions> = None;
        }
    }

    fn parse(query: &str) -> crate::Result<Builder> {
        let mut url = StoreUrl::parse(&format!("x:?{query}"))?;
        let mut builder = Builder::with_defaults();
        builder.take_options(&mut url)?;
        url.finish(OPTIONS).map(|()| builder)
    }

    #[test]
    fn intervals() {
        assert_eq!(parse("sweep=5m").unwrap().sweep, Interval::every(Duration::from_secs(300)));
        assert_eq!(parse("sweep=off").unwrap().sweep, Interval::OFF);
        for wrong in ["0s", "0ms", "5", "-1s", ""] {
            let error = parse(&format!("sweep={wrong}")).unwrap_err();
            assert!(error.message().contains("longer than zero"), "{wrong}: {error}");
        }
        assert!(Builder::with_defaults().sweep(Duration::ZERO).check_options().is_err());
        assert!(Builder::with_defaults().sweep(None).check_options().is_ok());
    }

    #[test]
    fn permissions() {
        let of = |text: &str| parse(&format!("permissions={text}")).map(|builder| builder.permissions);
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
            assert!(Builder::with_defaults().permissions(mode).check_options().is_err(), "{mode:o}");
        }
    }

    #[test]
    fn wrong_values_are_not_printed() {
        let error = parse("n=hunter2").unwrap_err();
        assert_eq!(error.message(), "the option `n` takes a whole number");
        assert_eq!(parse("n=7").unwrap().number(8).number, Some(8));
    }
}
