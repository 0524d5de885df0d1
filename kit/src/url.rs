//! Storage URLs: where a store is, and its options.

use std::fmt;

use percent_encoding::percent_decode_str;

use larder_core::{Error, ErrorKind, Result};

/// A storage URL taken apart: `scheme:rest?option=value&...`.
///
/// An adapter takes the options that it knows out of it ([`config!`](crate::config)), and then either
/// [finishes](StoreUrl::finish), which refuses what is left and names the known ones, or hands the
/// rest on to its driver as a [URL](StoreUrl::driver_url).
///
/// `Debug` prints the scheme only: a URL may hold a password.
///
/// ```
/// use larder_kit::StoreUrl;
///
/// let mut url = StoreUrl::parse("file:sessions?sync=false&sweep=5m")?;
/// assert_eq!(url.scheme(), "file");
/// assert_eq!(url.path()?, "sessions");
/// assert_eq!(url.take("sync")?.as_deref(), Some("false"));
/// assert_eq!(url.take("sweep")?.as_deref(), Some("5m"));
/// url.finish(&["sync", "sweep"])?;
/// # Ok::<(), larder_core::Error>(())
/// ```
#[derive(Clone)]
pub struct StoreUrl {
    scheme: String,
    rest: String,
    options: Vec<(String, String)>,
}

impl StoreUrl {
    /// Takes `url` apart. The scheme is case-insensitive and comes out in lower case.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if there is no scheme, or if there is a control character: the
    /// line feed at the end of a file that holds the URL would otherwise be part of a path.
    pub fn parse(url: &str) -> Result<Self> {
        if let Some(control) = url.chars().find(|c| c.is_control()) {
            return Err(configuration(format!(
                "a storage URL has no control characters, and this one has U+{:04X}; remove it",
                u32::from(control)
            )));
        }
        let (scheme, rest) = url.split_once(':').unwrap_or_default();
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(legal) {
            return Err(configuration(
                "a storage URL begins with a scheme, as in `file:sessions` or `redis://localhost`",
            ));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let options: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        // Otherwise it may be the end of a password, which an error about an unknown option would print.
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if !options.iter().all(|(name, _)| name.chars().all(legal)) {
            return Err(configuration(
                "the name of an option has letters, digits, `_`, `-` and `.` only; a question mark in a password is \
                 written `%3F`",
            ));
        }
        Ok(Self { scheme: scheme.to_ascii_lowercase(), rest: rest.to_owned(), options })
    }

    /// The text before the first colon, in lower case.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The text between the scheme's colon and the question mark, as it is.
    #[must_use]
    pub fn rest(&self) -> &str {
        &self.rest
    }

    /// The same as a file system path: percent-encoded bytes decoded (so `%3F` is a question mark),
    /// and an empty authority (`file:///var/lib/bot`) dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if it names a host, does not decode to UTF-8, or begins with `~`.
    /// A shell replaces `~` only at the beginning of a word, so `file:~/sessions` arrives as it is.
    pub fn path(&self) -> Result<String> {
        let path = match self.rest.strip_prefix("//") {
            None => self.rest.as_str(),
            Some(absolute) if absolute.starts_with('/') => absolute,
            Some(_) => {
                return Err(configuration(format!(
                    "`{0}://` is followed by a host; a path on this machine is written `{0}:relative/path` or \
                     `{0}:/absolute/path`",
                    self.scheme
                )));
            }
        };
        if path.starts_with('~') {
            return Err(configuration(format!(
                "`~` does not stand for the home directory in a storage URL; write the whole path, or `{0}:$HOME/...` \
                 in a shell (`{0}:./~...` for a name that begins with `~`)",
                self.scheme
            )));
        }
        percent_decode_str(path)
            .decode_utf8()
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| configuration("the path in the URL is not UTF-8 once it is percent-decoded"))
    }

    /// Takes the option `name` out.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if it is there more than once.
    pub fn take(&mut self, name: &str) -> Result<Option<String>> {
        let mut found: Vec<_> = self.options.extract_if(.., |(option, _)| option == name).collect();
        if found.len() > 1 {
            return Err(configuration(format!("the option `{name}` is given more than once")));
        }
        Ok(found.pop().map(|(_, value)| value))
    }

    /// The names of the options that have not been taken yet.
    pub fn remaining(&self) -> impl Iterator<Item = &str> {
        self.options.iter().map(|(name, _)| name.as_str())
    }

    /// Refuses options that were not taken; `known` names those that exist.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] that names the unknown option, the most similar known one, and all others.
    pub fn finish(&self, known: impl IntoIterator<Item = impl AsRef<str>>) -> Result<()> {
        let known: Vec<_> = known.into_iter().collect();
        let is_known = |name: &str| known.iter().any(|known| known.as_ref() == name);
        match self.remaining().find(|name| !is_known(name)) {
            Some(unknown) => Err(unknown_option(&self.scheme, unknown, &known)),
            None => Ok(()),
        }
    }

    /// The URL for a driver. Takes out the options that `knows` tells, and returns the URL with only them.
    pub fn driver_url(&mut self, knows: impl Fn(&str) -> bool) -> String {
        let options: Vec<_> = self.options.extract_if(.., |(name, _)| knows(name)).collect();
        let mut url = format!("{}:{}", self.scheme, self.rest);
        if !options.is_empty() {
            // Drivers percent-decode but do not all read `+` as a space.
            let query = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(&options)
                .finish()
                .replace('+', "%20");
            url.push('?');
            url.push_str(&query);
        }
        url
    }
}

/// The error about an option that `adapter` does not have. Suggests the known one that is most similar.
pub(crate) fn unknown_option(
    adapter: &str,
    unknown: &str,
    known: impl IntoIterator<Item = impl AsRef<str>>,
) -> Error {
    let known: Vec<_> = known.into_iter().collect();
    let known: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
    let similarity = |name: &&str| strsim::jaro_winkler(&unknown.to_ascii_lowercase(), name);
    let similar = known.iter().copied().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    let suggestion = match similar.filter(|name| similarity(name) > 0.8) {
        Some(name) => format!("did you mean `{name}`? Its"),
        None => "its".to_owned(),
    };
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    configuration(format!("`{adapter}:` has no option `{unknown}`; {suggestion} options are: {known}"))
}

fn configuration(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreUrl").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

/// `url` fit to be shown: the password between `user:` and `@` replaced by `***`, and no options, which
/// may be secrets too. For any other text, only the scheme is shown.
///
/// ```
/// assert_eq!(larder_kit::redact("postgres://bot:hunter2@db/app?sslmode=require"), "postgres://bot:***@db/app");
/// ```
#[must_use]
pub fn redact(url: &str) -> String {
    let mut shown = redact_password(url);
    shown.truncate(shown.find('?').unwrap_or(shown.len()));
    shown
}

fn redact_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // A mistyped URL may hold a password anywhere.
        return match url.split_once(':') {
            Some(("file" | "sqlite" | "memory", _)) => url.to_owned(),
            Some((scheme, _)) => format!("{scheme}:***"),
            None => "***".to_owned(),
        };
    };
    // A password may hold any character unencoded: it extends to the last `@`.
    let (user_info, host) = rest.rsplit_once('@').unwrap_or(("", rest));
    match user_info.split_once(':') {
        // The `@` may be in the password or in an option.
        _ if user_info.contains('?') => format!("{scheme}://***"),
        Some((user, _)) => format!("{scheme}://{user}:***@{host}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_with_a_question_mark_is_never_shown() {
        for url in
            ["postgres://u:what?hunter2@h/db", "redis://u:12?hunter2@h", "redis://h:1/?password=a@hunter2"]
        {
            assert!(!redact(url).contains("hunter2"), "{}", redact(url));
        }
        assert_eq!(redact("redis-sentinel://a:1,b:2/m?sentinel_password=a@hunter2"), "redis-sentinel://***");
        for url in ["postgres://u:what?hunter2@h/db", "redis://u:12?hunter2@h"] {
            let error = StoreUrl::parse(url).unwrap_err();
            assert!(!format!("{error:?}").contains("hunter2") && error.message().contains("%3F"), "{error}");
        }
    }

    #[test]
    fn paths() {
        let path = |url: &str| StoreUrl::parse(url).unwrap().path();
        assert_eq!(path("file:a/b").unwrap(), "a/b");
        assert_eq!(path("file:/a/b").unwrap(), "/a/b");
        assert_eq!(path("file:///a/b").unwrap(), "/a/b");
        assert_eq!(path("file:what%3F%20100%").unwrap(), "what? 100%");
        assert_eq!(path("file://host/a").unwrap_err().kind(), ErrorKind::InvalidConfig);
        assert_eq!(path("file:%ff").unwrap_err().kind(), ErrorKind::InvalidConfig);
    }

    #[test]
    fn path_that_begins_with_a_tilde_is_refused_with_a_hint() {
        for url in ["file:~/x", "sqlite:~/x.db", "file:~", "file:~bot/x"] {
            let error = StoreUrl::parse(url).unwrap().path().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
            assert!(error.message().contains("$HOME"), "{error}");
        }
        assert_eq!(StoreUrl::parse("file:./~x").unwrap().path().unwrap(), "./~x");
        assert_eq!(StoreUrl::parse("file:x~").unwrap().path().unwrap(), "x~");
    }

    #[test]
    fn control_characters_are_refused_and_nothing_of_the_url_is_printed() {
        for url in ["file:secret\n", "redis://u:secret@h\r\n", "\tfile:secret", "sqlite:secret\0.db"] {
            let error = StoreUrl::parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(error.message().contains("U+00") && !error.message().contains("secret"), "{error}");
        }
        assert_eq!(StoreUrl::parse("file:a%0Ab").unwrap().path().unwrap(), "a\nb");
    }

    #[test]
    fn nonsense_is_a_configuration_error() {
        for url in ["", "sessions", ":x", "1x:y", "a b:c", "/tmp/x"] {
            assert_eq!(StoreUrl::parse(url).unwrap_err().kind(), ErrorKind::InvalidConfig, "{url}");
        }
    }

    #[test]
    fn similar_option_is_suggested() {
        let known = ["max_bytes", "max_entries", "when_full", "sweep", "layout", "values"];
        for (unknown, similar) in [
            ("max_entires", "`max_entries`?"),
            ("maxEntries", "`max_entries`?"),
            ("max", "`max_bytes`?"),
            ("sweeep", "`sweep`?"),
            ("value", "`values`?"),
        ] {
            let message = unknown_option("memory", unknown, known).message().to_owned();
            assert!(message.contains(similar), "{unknown}: {message}");
        }
        for unknown in ["colour", "x", ""] {
            let message = unknown_option("memory", unknown, known).message().to_owned();
            assert!(!message.contains('?') && message.contains("when_full"), "{unknown}: {message}");
        }
    }

    #[test]
    fn unknown_and_doubled_options_are_refused() {
        let mut url = StoreUrl::parse("memory:?max=1&max=2&foo=x").unwrap();
        assert!(url.take("max").unwrap_err().message().contains("more than once"));
        let message = url.finish(["max"]).unwrap_err().message().to_owned();
        assert!(message.contains("`foo`") && message.contains("max"), "{message}");
    }

    #[test]
    fn driver_gets_its_options() {
        let mut url =
            StoreUrl::parse("postgres://u:p@h/db?table=x&application_name=my%20bot&tag=a&tag=b").unwrap();
        let driver = url.driver_url(|name| matches!(name, "application_name" | "tag"));
        assert_eq!(driver, "postgres://u:p@h/db?application_name=my%20bot&tag=a&tag=b");
        assert_eq!(url.take("table").unwrap().as_deref(), Some("x"));
        assert_eq!(url.driver_url(|_| true), "postgres://u:p@h/db");
    }

    #[test]
    fn passwords_are_redacted_however_they_are_written() {
        for url in [
            "redis://:hunter2@h",
            "redis://u:hunter2@h:1/0",
            "postgres://u:a/hunter2@x@h/db",
            "mongodb://u:hunter2@a:1,b:2/?tls=true",
            "postgres://u:what?hunter2@h/db",
            "redis-sentinel://h/m?sentinel_password=hunter2",
            "redis://h:1/?pasword=hunter2@",
            "postgres:bot:hunter2@db/app",
            "hunter2",
        ] {
            let shown = redact(url);
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert_eq!(redact("sqlite:a.db?x=1"), "sqlite:a.db");
        assert_eq!(redact("redis://u@h/1"), "redis://u@h/1");
    }
}
