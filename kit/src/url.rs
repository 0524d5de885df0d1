//! Storage URLs: the location of a store, and its options.

use std::fmt;

use percent_encoding::percent_decode_str;

use larder_core::{Error, ErrorKind, Result};

use crate::is_scheme;

/// A parsed storage URL: `scheme:rest?option=value&...`.
///
/// An adapter takes its own options out of the URL ([`config!`](crate::config)). Then it either passes the
/// remaining options to its driver as a [URL](StoreUrl::driver_url), or calls [`finish`](StoreUrl::finish), which
/// rejects them.
///
/// `Debug` prints only the scheme, because a URL may contain a password.
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
    /// The options of the driver.
    known: Vec<&'static str>,
}

impl StoreUrl {
    /// Parses `url`. The scheme is case-insensitive and is converted to lower case.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if the URL has no scheme, or contains a control character. If the URL comes
    /// from a file, for example, the line feed at its end would otherwise become part of a path.
    pub fn parse(url: &str) -> Result<Self> {
        if let Some(control) = url.chars().find(|c| c.is_control()) {
            return Err(configuration(format!(
                "the storage URL contains the control character U+{:04X}; remove it",
                u32::from(control)
            )));
        }
        let (scheme, rest) = url.split_once(':').unwrap_or_default();
        let scheme = scheme.to_ascii_lowercase();
        if !is_scheme(&scheme) {
            return Err(configuration(
                "the storage URL has no valid scheme; it must look like `file:sessions` or `redis://localhost`",
            ));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let options: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        // Such a name may be the end of a password, which the error about an unknown option would print.
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if !options.iter().all(|(name, _)| name.chars().all(legal)) {
            return Err(configuration(
                "the name of an option may contain only letters, digits, `_`, `-` and `.`; write a question mark in a \
                 password as `%3F`",
            ));
        }
        Ok(Self { scheme, rest: rest.to_owned(), options, known: Vec::new() })
    }

    /// Returns the text before the first colon, in lower case.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Returns the text between the scheme's colon and the question mark, without decoding.
    #[must_use]
    pub fn rest(&self) -> &str {
        &self.rest
    }

    /// Returns [`rest`](Self::rest) as a file system path. Decodes percent-encoded bytes (`%3F` is a question mark),
    /// and removes an empty authority (`file:///var/lib/bot`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if the URL names a host, does not decode to UTF-8, or begins with `~`.
    /// A shell replaces `~` only at the beginning of a word, so it does not replace the one in `file:~/sessions`.
    pub fn path(&self) -> Result<String> {
        let path = match self.rest.strip_prefix("//") {
            None => self.rest.as_str(),
            Some(absolute) if absolute.starts_with('/') => absolute,
            Some(_) => {
                return Err(configuration(format!(
                    "`{0}://` is followed by a host name, which is not supported; write a path on this machine as \
                     `{0}:relative/path` or `{0}:/absolute/path`",
                    self.scheme
                )));
            }
        };
        if path.starts_with('~') {
            return Err(configuration(format!(
                "`~` does not mean the home directory in a storage URL; write the whole path, or `{0}:$HOME/...` \
                 in a shell (`{0}:./~...` for a name that begins with `~`)",
                self.scheme
            )));
        }
        percent_decode_str(path)
            .decode_utf8()
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| configuration("the percent-decoded path of the storage URL is not UTF-8"))
    }

    /// Removes the option `name` and returns its value, if the URL has this option.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if the URL has the option more than once.
    pub fn take(&mut self, name: &str) -> Result<Option<String>> {
        let mut found: Vec<_> = self.options.extract_if(.., |(option, _)| option == name).collect();
        if found.len() > 1 {
            return Err(configuration(format!("the option `{name}` occurs more than once; remove one")));
        }
        Ok(found.pop().map(|(_, value)| value))
    }

    /// Returns the names of the options that were not taken yet.
    pub fn remaining(&self) -> impl Iterator<Item = &str> {
        self.options.iter().map(|(name, _)| name.as_str())
    }

    /// Checks that the remaining options are among the `known` ones.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if an option is unknown. The message names it, the most similar known option,
    /// and all known options.
    pub fn finish(&self, known: impl IntoIterator<Item = impl AsRef<str>>) -> Result<()> {
        let own: Vec<_> = known.into_iter().collect();
        let known: Vec<&str> = own.iter().map(AsRef::as_ref).chain(self.known.iter().copied()).collect();
        match self.remaining().find(|name| !known.contains(name)) {
            Some(unknown) => Err(unknown_option(&self.scheme, unknown, &known)),
            None => Ok(()),
        }
    }

    /// Returns the URL for a driver that has only the options `names`, and removes them. [`finish`](Self::finish) names
    /// them among the known options.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if an option is given more than once: drivers differ in the one that they use.
    pub fn url_with(&mut self, names: &'static [&'static str]) -> Result<String> {
        self.known.extend(names);
        for name in names {
            self.clone().take(name)?;
        }
        Ok(self.driver_url(|name| names.contains(&name)))
    }

    /// Returns the URL for a driver. Removes the options that the driver `knows`, and returns the URL with only
    /// these options.
    pub fn driver_url(&mut self, knows: impl Fn(&str) -> bool) -> String {
        let options: Vec<_> = self.options.extract_if(.., |(name, _)| knows(name)).collect();
        let mut url = format!("{}:{}", self.scheme, self.rest);
        if !options.is_empty() {
            // All drivers percent-decode, but some do not decode `+` as a space.
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

/// Returns the error about an option that `adapter` does not have. Suggests the most similar known option.
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

/// Removes the secrets from a URL, for display. Replaces the password between `user:` and `@` by `***`, and
/// removes the options, which may be secrets too. Of any other text, returns only the scheme.
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
    // The value of an option may be a URL too.
    let is_first = |(scheme, _): &(&str, &str)| !scheme.contains([':', '?']);
    let Some((scheme, rest)) = url.split_once("://").filter(is_first) else {
        // A mistyped URL may contain a password anywhere.
        let (shown, _) = url.split_once('?').unwrap_or((url, ""));
        return match shown.split_once(':') {
            Some(("file" | "sqlite" | "memory", _)) => shown.to_owned(),
            Some(("dynamodb", table)) if !table.contains([':', '@']) => shown.to_owned(),
            Some((scheme, _)) => format!("{scheme}:***"),
            None => "***".to_owned(),
        };
    };
    // A password may contain any character, also without encoding. It extends to the last `@`.
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
    fn a_password_with_a_question_mark_is_never_shown() {
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
    fn paths_are_decoded() {
        let path = |url: &str| StoreUrl::parse(url).unwrap().path();
        assert_eq!(path("file:a/b").unwrap(), "a/b");
        assert_eq!(path("file:/a/b").unwrap(), "/a/b");
        assert_eq!(path("file:///a/b").unwrap(), "/a/b");
        assert_eq!(path("file:what%3F%20100%").unwrap(), "what? 100%");
        assert_eq!(path("file://host/a").unwrap_err().kind(), ErrorKind::InvalidConfig);
        assert_eq!(path("file:%ff").unwrap_err().kind(), ErrorKind::InvalidConfig);
    }

    #[test]
    fn a_path_that_begins_with_a_tilde_is_rejected_with_a_hint() {
        for url in ["file:~/x", "sqlite:~/x.db", "file:~", "file:~bot/x"] {
            let error = StoreUrl::parse(url).unwrap().path().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
            assert!(error.message().contains("$HOME"), "{error}");
        }
        assert_eq!(StoreUrl::parse("file:./~x").unwrap().path().unwrap(), "./~x");
        assert_eq!(StoreUrl::parse("file:x~").unwrap().path().unwrap(), "x~");
    }

    #[test]
    fn control_characters_are_rejected_without_printing_the_url() {
        for url in ["file:secret\n", "redis://u:secret@h\r\n", "\tfile:secret", "sqlite:secret\0.db"] {
            let error = StoreUrl::parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(error.message().contains("U+00") && !error.message().contains("secret"), "{error}");
        }
        assert_eq!(StoreUrl::parse("file:a%0Ab").unwrap().path().unwrap(), "a\nb");
    }

    #[test]
    fn a_url_without_a_valid_scheme_is_a_configuration_error() {
        for url in ["", "sessions", ":x", "1x:y", "a b:c", "/tmp/x"] {
            assert_eq!(StoreUrl::parse(url).unwrap_err().kind(), ErrorKind::InvalidConfig, "{url}");
        }
    }

    #[test]
    fn the_most_similar_option_is_suggested() {
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
    fn unknown_and_repeated_options_are_rejected() {
        let mut url = StoreUrl::parse("memory:?max=1&max=2&foo=x").unwrap();
        assert!(url.take("max").unwrap_err().message().contains("more than once"));
        let message = url.finish(["max"]).unwrap_err().message().to_owned();
        assert!(message.contains("`foo`") && message.contains("max"), "{message}");
    }

    #[test]
    fn the_driver_receives_its_options() {
        let mut url =
            StoreUrl::parse("postgres://u:p@h/db?table=x&application_name=my%20bot&tag=a&tag=b").unwrap();
        let driver = url.driver_url(|name| matches!(name, "application_name" | "tag"));
        assert_eq!(driver, "postgres://u:p@h/db?application_name=my%20bot&tag=a&tag=b");
        assert_eq!(url.take("table").unwrap().as_deref(), Some("x"));
        assert_eq!(url.driver_url(|_| true), "postgres://u:p@h/db");
    }

    #[test]
    fn passwords_are_redacted_in_every_form() {
        for url in [
            "redis://:hunter2@h",
            "redis://u:hunter2@h:1/0",
            "postgres://u:a/hunter2@x@h/db",
            "mongodb://u:hunter2@a:1,b:2/?tls=true",
            "postgres://u:what?hunter2@h/db",
            "redis-sentinel://h/m?sentinel_password=hunter2",
            "redis://h:1/?pasword=hunter2@",
            "postgres:bot:hunter2@db/app",
            "postgres:bot:hunter2@db/app?proxy=http://h",
            "dynamodb:app?secret_access_key=hunter2",
            "dynamodb:key:hunter2@app?region=local",
            "dynamodb:key:hunter2@app?endpoint=http://localhost",
            "dynamodb:hunter2@app",
            "hunter2",
            "hunter2?proxy=http://h",
        ] {
            let shown = redact(url);
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert_eq!(redact("sqlite:a.db?x=1"), "sqlite:a.db");
        assert_eq!(redact("redis://u@h/1"), "redis://u@h/1");
        assert_eq!(redact("dynamodb:app?endpoint=http://localhost:8000"), "dynamodb:app");
        assert_eq!(redact("dynamodb:key:hunter2@app"), "dynamodb:***");
    }
}
