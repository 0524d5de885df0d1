//! A person at a real browser, with a mouse or only with a keyboard.

#![allow(clippy::panic)] // A case fails by panicking.

use std::{process::Stdio, time::Duration};

use larder_testkit::{Missing, Must, until};
use serde_json::json;
use tempfile::TempDir;
use thirtyfour::{
    ChromiumLikeCapabilities, DesiredCapabilities, Key, WebDriver, WebElement, error::WebDriverResult,
    prelude::By,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
};

/// The limit of each wait for a browser on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most attempts to start chromedriver.
const ATTEMPTS: usize = 20;

/// The most presses of the Tab key until a control has the focus.
const TABS: usize = 30;

/// What a visitor uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hand {
    Mouse,
    Keyboard,
}

/// A program that starts browsers and controls them. It is killed on drop, and its browsers with it.
pub(crate) struct Driver {
    _process: Child,
    url: String,
    /// Stays open.
    _output: BufReader<ChildStdout>,
    /// The profiles of the browsers.
    _directory: TempDir,
}

impl Driver {
    /// Starts chromedriver.
    pub(crate) async fn start() -> Result<Self, Missing> {
        for _ in 0..ATTEMPTS {
            if let Some(driver) = Self::attempt().await? {
                return Ok(driver);
            }
        }
        panic!("chromedriver ends at its start");
    }

    /// Starts chromedriver, which takes a free port of IPv6 and then the same port of IPv4. If another process has that
    /// one, chromedriver ends.
    async fn attempt() -> Result<Option<Self>, Missing> {
        let directory = tempfile::tempdir().must("make a directory");
        let process = Command::new("chromedriver")
            .arg("--port=0")
            .env("TMPDIR", directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut process = process.map_err(|error| {
            let reason = format!("cannot run chromedriver: {error}; run ci/tools to install it");
            Missing::new(reason, larder_test_servers::Tool::Browser.required())
        })?;
        let mut lines = BufReader::new(process.stdout.take().must("take its output")).lines();
        while let Some(line) = lines.next_line().await.must("read its output") {
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                let url = format!("http://127.0.0.1:{}", port.trim_end_matches('.'));
                let output = lines.into_inner();
                return Ok(Some(Self { _process: process, url, _output: output, _directory: directory }));
            }
        }
        Ok(None)
    }
}

/// A person with a browser and a profile of their own, who visits one site.
pub(crate) struct Visitor {
    browser: WebDriver,
    hand: Hand,
    site: String,
}

/// The kinds of browser.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Chromium, as it is.
    Chromium,
    /// Says that it is Firefox on Windows.
    Firefox,
    /// As small as a phone, and says that it is Safari on an iPhone.
    Phone,
}

impl Visitor {
    /// Starts a browser.
    pub(crate) async fn start(driver: &Driver, kind: Kind, hand: Hand, site: impl ToString) -> Self {
        let browser = start(driver, kind).await.must("start a browser");
        Self { browser, hand, site: format!("http://{}", site.to_string()) }
    }

    /// Ends the browser.
    pub(crate) async fn leave(self) {
        self.browser.quit().await.must("end the browser");
    }

    /// Opens a page by its address.
    pub(crate) async fn open(&self, path: &str) {
        self.browser.goto(format!("{}{path}", self.site)).await.must("open a page");
    }

    /// Opens a page of another site.
    pub(crate) async fn open_elsewhere(&self, html: &str) {
        let page = html.replace("SITE", &self.site);
        self.browser.goto(format!("data:text/html,{page}")).await.must("open a page of another site");
    }

    /// Loads the page again.
    pub(crate) async fn reload(&self) {
        self.browser.refresh().await.must("reload");
    }

    /// Returns the path of the page.
    pub(crate) async fn path(&self) -> String {
        self.browser.current_url().await.must("read the address").path().to_owned()
    }

    /// Returns the visible text of the page.
    pub(crate) async fn text(&self) -> String {
        self.part("//body").await
    }

    /// Returns the visible text of the element of an XPath.
    pub(crate) async fn part(&self, path: &str) -> String {
        self.find(path).await.text().await.must("read a part of the page")
    }

    /// Checks that the page shows a text.
    pub(crate) async fn sees(&self, text: &str) {
        let seen = self.text().await;
        assert!(seen.contains(text), "{text:?} is not in {seen:?}");
    }

    /// Checks that the page does not show a text.
    pub(crate) async fn sees_no(&self, text: &str) {
        let seen = self.text().await;
        assert!(!seen.contains(text), "{text:?} is in {seen:?}");
    }

    /// Types into the field with a label.
    pub(crate) async fn fill(&self, label: &str, text: &str) {
        let path = format!("//input[@id = //label[normalize-space() = '{label}']/@for]");
        let field = self.find(&path).await;
        match self.hand {
            Hand::Mouse => self.click(&field).await,
            Hand::Keyboard => self.focus(&field).await,
        }
        let typing = self.browser.action_chain().send_keys(text);
        typing.perform().await.must("type");
    }

    /// Presses the button or link with a name, and waits for the next page.
    pub(crate) async fn press(&self, name: &str) {
        self.press_within("//body", name).await;
    }

    /// The same, within the element of an XPath.
    pub(crate) async fn press_within(&self, part: &str, name: &str) {
        // The first text; the second is hidden.
        let path = format!("{part}//*[self::a or self::button][normalize-space(text()) = '{name}']");
        let control = self.find(&path).await;
        let before = self.run("return performance.timeOrigin").await.as_f64();
        match self.hand {
            Hand::Mouse => self.click(&control).await,
            Hand::Keyboard => {
                self.focus(&control).await;
                self.key(Key::Enter).await;
            }
        }
        until("the next page is there", PATIENCE, || async {
            let page = self.page().await;
            page.is_some() && page != before
        })
        .await;
    }

    /// Signs in on the page of the sign-in.
    pub(crate) async fn sign_in(&self, name: &str, password: &str) {
        self.open("/sign-in").await;
        self.fill("Name", name).await;
        self.fill("Password", password).await;
        self.press("Sign in").await;
    }

    /// Returns the HTTP status of the page.
    pub(crate) async fn status(&self) -> u64 {
        let status = self.run("return performance.getEntriesByType('navigation')[0].responseStatus").await;
        status.as_u64().must("a status")
    }

    /// Checks the parts of the page that assistive technology needs, and that it fits the screen.
    pub(crate) async fn can_be_used_by_all(&self) {
        let problems = self
            .run(
                "const all = selector => [...document.querySelectorAll(selector)];
                 const problems = [];
                 const check = (holds, problem) => holds || problems.push(problem);
                 check(document.documentElement.lang, 'no language');
                 check(document.title, 'no title');
                 for (const one of ['main', 'header', 'h1']) check(all(one).length === 1, `not one ${one}`);
                 for (const field of all('input:not([type=hidden])')) check(field.labels.length, `no label: ${field.name}`);
                 for (const control of all('a, button')) check(control.textContent.trim(), `no name: ${control.outerHTML}`);
                 const ids = all('[id]').map(element => element.id);
                 check(new Set(ids).size === ids.length, `an id twice: ${ids}`);
                 check(!all('script, [style], [onclick]').length, 'a script or style');
                 const width = document.documentElement;
                 check(width.scrollWidth <= width.clientWidth, `wider than the screen: ${width.scrollWidth}`);
                 return problems;",
            )
            .await;
        assert_eq!(problems, json!([]), "{}", self.path().await);
    }

    /// Stores a picture of the page.
    pub(crate) async fn picture(&self, path: &str) {
        self.browser.screenshot(path.as_ref()).await.must("store a picture");
    }

    /// Returns a number that differs for each loaded page, once the page is complete.
    async fn page(&self) -> Option<f64> {
        let script = "return document.readyState === 'complete' ? performance.timeOrigin : null";
        // Fails if the page leaves while the script runs.
        let answer = self.browser.execute(script, Vec::new()).await.ok()?;
        answer.json().as_f64()
    }

    async fn run(&self, script: &str) -> serde_json::Value {
        let answer = self.browser.execute(script, Vec::new()).await.must("look at the page");
        answer.json().clone()
    }

    async fn find(&self, path: &str) -> WebElement {
        self.browser.find(By::XPath(path)).await.must(path)
    }

    /// Moves the mouse to an element and clicks.
    async fn click(&self, element: &WebElement) {
        element.scroll_into_view().await.must("scroll");
        let click = self.browser.action_chain().move_to_element_center(element).click();
        click.perform().await.must("click");
    }

    /// Presses Tab until an element has the focus, and checks that each focus is visible.
    async fn focus(&self, element: &WebElement) {
        for _ in 0..TABS {
            self.key(Key::Tab).await;
            let focused = self.browser.active_element().await.must("find the focus");
            let seen = self.run(
                "const focused = document.activeElement;
                 const { outlineStyle, outlineWidth } = getComputedStyle(focused);
                 return focused === document.body || outlineStyle === 'auto'
                     || outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2;",
            );
            assert_eq!(seen.await, json!(true), "the focus is visible");
            if focused.element_id() == element.element_id() {
                return;
            }
        }
        panic!("the Tab key does not reach a control on {}", self.path().await);
    }

    async fn key(&self, key: Key) {
        self.browser.action_chain().send_keys(key).perform().await.must("press a key");
    }
}

async fn start(driver: &Driver, kind: Kind) -> WebDriverResult<WebDriver> {
    let mut wanted = DesiredCapabilities::chrome();
    for argument in [
        "--headless=new",
        // The page gets 900 x 700.
        "--window-size=900,843",
        "--hide-scrollbars",
        // If the driver is killed, the browser ends too.
        "--remote-debugging-pipe",
        // The tests may run as root or in a container, where the sandbox does not work. They load only the example.
        "--no-sandbox",
        "--disable-dev-shm-usage",
    ] {
        wanted.add_arg(argument)?;
    }
    match kind {
        Kind::Chromium => {}
        Kind::Firefox => wanted.add_arg(
            "--user-agent=Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0",
        )?,
        Kind::Phone => wanted.add_experimental_option(
            "mobileEmulation",
            json!({
                "deviceMetrics": { "width": 360, "height": 740, "pixelRatio": 2.0, "touch": false },
                "userAgent": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
            }),
        )?,
    }
    WebDriver::new(&driver.url, wanted).await
}
