//! The configuration of an adapter, declared in one place.

use std::{collections::BTreeMap, fmt};

use larder_core::{Error, ErrorKind, Operation, Result};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{StoreUrl, url::unknown_option};

/// The documentation of an adapter's option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OptionInfo {
    /// The name in URLs, in configuration files and of the setter.
    pub name: &'static str,
    /// The default, in Markdown.
    pub default: &'static str,
    /// The meaning: one paragraph in Markdown.
    pub meaning: &'static str,
}

impl OptionInfo {
    #[doc(hidden)]
    #[must_use]
    pub const fn new(name: &'static str, default: &'static str, meaning: &'static str) -> Self {
        Self { name, default, meaning }
    }
}

/// Prints a row of a Markdown table: name, default and meaning.
impl fmt::Display for OptionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| `{}` | {} | {} |", self.name, self.default, self.meaning.trim())
    }
}

/// The configuration of an adapter. [`config!`](crate::config) implements this trait.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the configuration of an adapter",
    label = "does not implement `Configure`",
    note = "declare it with `larder_kit::config!`, which implements `Configure`"
)]
pub trait Configure: Default {
    /// The adapter's short name, for errors.
    const ADAPTER: &'static str;

    /// The options, in the order of the documentation.
    const OPTIONS: &'static [OptionInfo];

    /// Sets the location of the store from a URL. The options of the configuration are not in the URL any more.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if the URL is not valid for this adapter.
    fn locate(&mut self, url: &mut StoreUrl) -> Result<()>;

    /// Sets the option `name` to the value of `text`. Returns `false` if the option does not exist.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if the value is not valid for the option.
    fn set(&mut self, name: &str, text: &str) -> Result<bool>;

    /// Sets the location of the store and the options from a URL.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if the URL is not valid for this adapter, if an option is unknown, or if a value
    /// is not valid for its option.
    fn set_url(&mut self, url: &str) -> Result<()> {
        let mut url = StoreUrl::parse(url)?;
        for OptionInfo { name, .. } in Self::OPTIONS {
            if let Some(text) = url.take(name)? {
                self.set(name, &text)?;
            }
        }
        self.locate(&mut url)?;
        url.finish(Self::OPTIONS.iter().map(|option| option.name))?;
        self.check_options()
    }

    /// Checks that the values of all options are valid. They may come from setters.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if a value is not valid. The message names the option.
    fn check_options(&self) -> Result<()>;

    /// Adds the adapter's name and the operation [`Connect`](Operation::Connect) to an error.
    #[must_use]
    fn named(error: Error) -> Error {
        error.with_adapter(Self::ADAPTER).with_operation(Operation::Connect)
    }
}

/// Parses the default of an option.
#[doc(hidden)]
#[must_use]
pub fn default_option<T>(text: &str, parse: fn(&str) -> Option<T>) -> T {
    parse(text).unwrap_or_else(|| unreachable!("the default of an option must be a valid value"))
}

/// Returns the error about a value that is not valid for the option `name`. It does not contain the value.
#[must_use]
pub fn invalid_option(name: &str, expects: impl fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidConfig, format!("the option `{name}` must be {expects}"))
}

/// A value of an option in a configuration file. Displays in the notation of a URL.
#[derive(Deserialize)]
#[serde(untagged, expecting = "an option must be a text, a whole number, `true` or `false`")]
enum FileValue {
    Text(String),
    Number(i64),
    Bool(bool),
}

impl fmt::Display for FileValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Bool(value) => value.fmt(f),
        }
    }
}

/// Reads a configuration from a map with `url` and options by name. The options override those in the URL.
#[doc(hidden)]
pub fn deserialize<'de, C: Configure, D: Deserializer<'de>>(deserializer: D) -> Result<C, D::Error> {
    let mut options: BTreeMap<String, FileValue> = BTreeMap::deserialize(deserializer)?;
    let url = options.remove("url");
    let read = || {
        let mut config = C::default();
        if let Some(url) = url {
            config.set_url(&url.to_string())?;
        }
        for (name, text) in options {
            if !config.set(&name, &text.to_string())? {
                let known = C::OPTIONS.iter().map(|option| option.name);
                return Err(unknown_option(C::ADAPTER, &name, known));
            }
        }
        config.check_options().map(|()| config)
    };
    read().map_err(|error| D::Error::custom(error.message()))
}

/// Declares the configuration of an adapter: a struct with a default and a setter for each option.
///
/// Each option has:
///
/// - one paragraph of documentation, without links; the setter, the documentation of the struct and the
///   adapter's tables use it
/// - the default, in the notation of a URL; for an `Option` without a value, `unset` describes the default
/// - `parse` (optional), which replaces the parser of its type
/// - `if` (optional), which restricts its values, with a description of the valid values for errors, as in
///   [`OptionValue::expects`](crate::OptionValue::expects)
///
/// The fields before the options belong to the adapter. Each starts with the `Default` of its type.
///
/// The adapter implements the method `locate`, which sets the location of the store from a URL (see
/// [`Configure`]). The macro implements:
///
/// - [`Configure`]
/// - `OPTIONS`, `new`, `from_url` and the setters
/// - `serde::Deserialize`, from a map with `url` and the options
///
/// ```
/// use std::time::Duration;
/// use larder_kit::{Configure, Interval, StoreUrl};
///
/// larder_kit::choices! {
///     /// The effect of a write to a full store.
///     pub enum WhenFull {
///         /// It fails.
///         #[default]
///         "refuse" => Refuse,
///         /// It replaces the least recently used entry.
///         "evict" => Evict,
///     }
/// }
///
/// larder_kit::config! {
///     /// The configuration of a store.
///     #[derive(Debug)]
///     pub struct Config for "example" {
///         host: String,
///     }
///
///     options {
///         /// The maximum number of entries.
///         max_entries: Option<u64>, unset "no limit", if |max| *max != Some(0) => "at least 1";
///         /// Whether a write to a full store fails (`refuse`) or replaces another entry (`evict`).
///         when_full: WhenFull = "refuse";
///         /// The interval at which expired entries are removed, or `off`.
///         sweep: Interval = "60s";
///     }
/// }
///
/// impl Config {
///     fn locate(&mut self, url: &mut StoreUrl) -> larder_core::Result<()> {
///         self.host = url.rest().trim_start_matches('/').to_owned();
///         Ok(())
///     }
/// }
///
/// let config = Config::from_url("example://localhost?when_full=evict")?.max_entries(7);
/// assert_eq!((config.host.as_str(), config.when_full), ("localhost", WhenFull::Evict));
/// assert_eq!(config.sweep, Interval::every(Duration::from_secs(60)));
///
/// let error = config.max_entries(0).check_options().unwrap_err();
/// assert!(error.message().contains("`max_entries` must be at least 1"));
///
/// let config: Config = serde_json::from_str(r#"{"url": "example://localhost", "sweep": "off"}"#).unwrap();
/// assert_eq!(config.sweep, Interval::OFF);
/// # Ok::<(), larder_core::Error>(())
/// ```
#[macro_export]
macro_rules! config {
    (
        $(#[$outer:meta])*
        $vis:vis struct $config:ident for $adapter:literal {
            $($(#[$field_doc:meta])* $field:ident: $field_type:ty),* $(,)?
        }

        options {
            $(
                $(#[doc = $doc:literal])+
                $option:ident: $type:ty $(= $default:literal)? $(, unset $unset:literal)?
                    $(, parse $parse:expr)? $(, if $is_valid:expr => $expects:expr)?;
            )+
        }
    ) => {
        $(#[$outer])*
        ///
        /// # Options
        ///
        /// Each option can be set in a URL, by a setter, or beside the `url` in a configuration file:
        ///
        /// | option | default | meaning |
        /// |---|---|---|
        $(#[doc = concat!(
            "| `", stringify!($option), "` | ", $("`", $default, "`",)? $($unset,)? " |", $($doc,)+ " |",
        )])+
        $vis struct $config {
            $($(#[$field_doc])* pub(crate) $field: $field_type,)*
            $(pub(crate) $option: $type,)+
        }

        impl Default for $config {
            fn default() -> Self {
                Self {
                    $($field: Default::default(),)*
                    $($option: $crate::default_option!(
                        $crate::given!([$($parse)?] <$type as $crate::OptionValue>::parse) $(, $default)?
                    ),)+
                }
            }
        }

        impl $config {
            /// The options, in the order of the documentation.
            $vis const OPTIONS: &'static [$crate::OptionInfo] = <Self as $crate::Configure>::OPTIONS;

            /// Creates a configuration with the defaults.
            #[must_use]
            $vis fn new() -> Self {
                Self::default()
            }

            /// Reads a configuration from a URL.
            ///
            /// # Errors
            ///
            /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the URL is not valid for this adapter, if
            /// an option is unknown, or if a value is not valid for its option. The message does not contain the
            /// URL.
            $vis fn from_url(url: &str) -> $crate::Result<Self> {
                let mut config = Self::default();
                let set = $crate::Configure::set_url(&mut config, url);
                set.map(|()| config).map_err(|error| <Self as $crate::Configure>::named(error).not_applied())
            }

            $(
                $(#[doc = $doc])+
                ///
                #[doc = concat!("Default: ", $("`", $default, "`",)? $($unset,)? ".")]
                #[must_use]
                $vis fn $option(mut self, $option: impl $crate::IntoOption<$type>) -> Self {
                    self.$option = $crate::IntoOption::into_option($option);
                    self
                }
            )+
        }

        impl $crate::Configure for $config {
            const ADAPTER: &'static str = $adapter;

            const OPTIONS: &'static [$crate::OptionInfo] = &[
                $($crate::OptionInfo::new(
                    stringify!($option),
                    concat!($("`", $default, "`",)? $($unset,)?),
                    concat!($($doc),+),
                ),)+
            ];

            fn locate(&mut self, url: &mut $crate::StoreUrl) -> $crate::Result<()> {
                $config::locate(self, url)
            }

            fn set(&mut self, name: &str, text: &str) -> $crate::Result<bool> {
                match name {
                    $(stringify!($option) => {
                        let parse: fn(&str) -> Option<$type> =
                            $crate::given!([$($parse)?] $crate::OptionValue::parse);
                        let expects =
                            || $crate::given!([$($expects)?] <$type as $crate::OptionValue>::expects());
                        self.$option = parse(text).ok_or_else(|| $crate::invalid_option(name, expects()))?;
                    })+
                    _ => return Ok(false),
                }
                Ok(true)
            }

            fn check_options(&self) -> $crate::Result<()> {
                $(
                    let is_valid: fn(&$type) -> bool =
                        $crate::given!([$($is_valid)?] $crate::OptionValue::is_valid);
                    if !is_valid(&self.$option) {
                        let expects = $crate::given!([$($expects)?] <$type as $crate::OptionValue>::expects());
                        return Err($crate::invalid_option(stringify!($option), expects));
                    }
                )+
                Ok(())
            }
        }

        impl<'de> $crate::serde::Deserialize<'de> for $config {
            fn deserialize<D: $crate::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::deserialize(deserializer)
            }
        }
    };
}

/// Expands to the expression in the brackets, or to the one after them if the brackets are empty.
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

/// Expands to the default of an option: the parsed literal, or `None` without a literal.
#[doc(hidden)]
#[macro_export]
macro_rules! default_option {
    ($parse:expr) => {
        None
    };
    ($parse:expr, $default:literal) => {
        $crate::default_option($default, $parse)
    };
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::{Interval, Secret, Timeout};

    crate::config! {
        /// A configuration.
        #[derive(Clone, Debug)]
        struct Config for "example" {
            host: String,
        }

        options {
            /// A number
            /// below ten.
            number: Option<u32>, unset "no number", if |number| *number < Some(10) => "a number below 10";
            /// Whether it is quiet.
            quiet: bool = "false";
            /// How long a call may take.
            timeout: Timeout = "5s";
            /// The interval.
            sweep: Interval = "off";
            /// The password.
            password: Option<Secret>, unset "none";
        }
    }

    impl Config {
        fn locate(&mut self, url: &mut StoreUrl) -> Result<()> {
            self.host = url.rest().to_owned();
            Ok(())
        }
    }

    fn read(json: serde_json::Value) -> Result<Config, String> {
        serde_json::from_value(json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_url_a_map_and_setters_are_equivalent() {
        let by_url = Config::from_url("x:h?number=7&quiet=true&timeout=2s&sweep=5m&password=p").unwrap();
        let map = json!({
            "url": "x:h", "number": 7, "quiet": true, "timeout": "2s", "sweep": "5m", "password": "p",
        });
        let texts = json!({
            "url": "x:h", "number": "7", "quiet": "true", "timeout": "2s", "sweep": "5m", "password": "p",
        });
        let setters = Config { host: "h".to_owned(), ..Config::new() }
            .number(7)
            .quiet(true)
            .timeout(Duration::from_secs(2))
            .sweep(Duration::from_secs(300))
            .password("p");
        for other in [read(map).unwrap(), read(texts).unwrap(), setters] {
            other.check_options().unwrap();
            let fields =
                |c: &Config| (c.host.clone(), c.number, c.quiet, c.timeout, c.sweep, c.password.clone());
            assert_eq!(fields(&other), fields(&by_url));
        }
    }

    #[test]
    fn an_option_beside_the_url_replaces_the_one_in_it() {
        // The order of the map does not matter.
        let config = read(json!({ "number": 3, "quiet": true, "url": "x:h?number=2&sweep=1m" })).unwrap();
        assert_eq!((config.number, config.quiet), (Some(3), true));
        assert_eq!(config.sweep, Interval::every(Duration::from_secs(60)));
    }

    #[test]
    fn unknown_options_and_wrong_values_are_rejected_without_printing_the_value() {
        for (map, says) in [
            (json!({ "numbr": 7 }), "did you mean `number`?"),
            (json!({ "colour": "hunter2" }), "its options are: number, quiet"),
            (json!({ "number": "hunter2" }), "`number` must be a number below 10"),
            (json!({ "number": 12 }), "`number` must be a number below 10"),
            (json!({ "timeout": "0s" }), "longer than zero"),
            (json!({ "timeout": 5 }), "with a unit"),
            (json!({ "url": "x:h?quiet=hunter2" }), "`quiet` must be `true` or `false`"),
            (json!({ "quiet": ["hunter2"] }), "must be a text, a whole number"),
            (json!(7), "expected a map"),
        ] {
            let error = read(map).unwrap_err();
            assert!(error.contains(says) && !error.contains("hunter2"), "{error}");
        }
        let error = Config::new().number(12).check_options().unwrap_err();
        assert_eq!(error.message(), "the option `number` must be a number below 10");
    }

    #[test]
    fn a_password_is_not_printed() {
        let config = Config::new().password("hunter2");
        assert_eq!(config.password.as_ref().unwrap().expose(), "hunter2");
        assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    }

    #[test]
    fn options_are_displayed_as_rows_of_a_table() {
        let rows: Vec<String> = Config::OPTIONS.iter().map(ToString::to_string).collect();
        assert_eq!(rows[0], "| `number` | no number | A number below ten. |");
        assert_eq!(rows[2], "| `timeout` | `5s` | How long a call may take. |");
    }
}
