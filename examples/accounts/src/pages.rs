//! The HTML of the pages. `html!` escapes every value.

use axum_messages::{Level, Messages};
use larder_tower_sessions::OwnedSession;
use maud::{DOCTYPE, Markup, html};
use time::{OffsetDateTime, format_description::StaticFormatDescription, macros::format_description};

use crate::users;

const TIME: StaticFormatDescription =
    format_description!("[day padding:none] [month repr:long] [year], [hour]:[minute] UTC");
const DAY: StaticFormatDescription = format_description!("[day padding:none] [month repr:long] [year]");

/// Returns a page, for a visitor or for the user `name`.
fn page(title: &str, name: Option<&str>, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " – Accounts" }
                link rel="icon" href="/icon.svg";
                link rel="stylesheet" href="/style.css";
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header {
                    a.brand href="/" { "Accounts" }
                    @if let Some(name) = name {
                        nav aria-label="Main" {
                            a href="/" aria-current=[(title == HOME).then_some("page")] { (HOME) }
                            a href="/settings" aria-current=[(title == SETTINGS).then_some("page")] { (SETTINGS) }
                        }
                        form.who method="post" action="/sign-out" {
                            span { (name) }
                            button.quiet { "Sign out" }
                        }
                    }
                }
                main #main tabindex="-1" { (content) }
            }
        }
    }
}

const HOME: &str = "Home";
const SETTINGS: &str = "Settings";

/// Returns the messages of the last action. Each is shown once.
fn flash(messages: Messages) -> Markup {
    html! {
        @for message in messages {
            @let role = if message.level == Level::Error { "alert" } else { "status" };
            p class={ "message " (message.level) } role=(role) { (message) }
        }
    }
}

pub(crate) fn sign_in(messages: Messages) -> Markup {
    let content = html! {
        section.card.narrow {
            h1 { "Sign in" }
            (flash(messages))
            form.fields method="post" action="/sign-in" {
                label for="name" { "Name" }
                input #name name="name" required autocomplete="username" autocapitalize="none" spellcheck="false";
                label for="password" { "Password" }
                input #password name="password" type="password" required autocomplete="current-password";
                button { "Sign in" }
            }
            p.note { (users::DEMO) }
        }
    };
    page("Sign in", None, &content)
}

pub(crate) fn home(name: &str, count: u64, messages: Messages) -> Markup {
    let content = html! {
        h1 { "Hello, " (name) "!" }
        (flash(messages))
        section.card.counter {
            p #count { (count) }
            form method="post" action="/count" { button { "Count" } }
            p.note { "The counter belongs to this session. Another device has its own." }
        }
    };
    page(HOME, Some(name), &content)
}

pub(crate) fn settings(name: &str, devices: &[OwnedSession], here: &str, messages: Messages) -> Markup {
    let content = html! {
        h1 { (SETTINGS) }
        (flash(messages))
        section.card aria-labelledby="devices" {
            h2 #devices { "Your devices" }
            p.note { "You are signed in on these devices. Sign out those that you do not know." }
            ul.devices {
                @for device in devices {
                    (item(device, device.handle() == here))
                }
            }
            div.actions {
                form method="post" action="/settings/sign-out-others" {
                    button.quiet { "Sign out everywhere else" }
                }
                form method="post" action="/settings/sign-out-everywhere" {
                    button.danger { "Sign out everywhere" }
                }
            }
        }
    };
    page(SETTINGS, Some(name), &content)
}

fn item(device: &OwnedSession, is_here: bool) -> Markup {
    let label = device.device().unwrap_or("Unknown device");
    let (created, used) = (device.created().into(), device.used().into());
    html! {
        li {
            div {
                h3 {
                    (label)
                    @if is_here { " " span.badge { "This device" } }
                }
                p {
                    "Signed in on " (text(created, TIME)) br;
                    // A use is noted about once a day.
                    @if is_here { "In use now" } @else { "Last used on " (text(used, DAY)) }
                }
            }
            form method="post" action="/settings/sign-out" {
                input type="hidden" name="handle" value=(device.handle());
                button.quiet { "Sign out" span.hidden { " " (label) ", signed in on " (text(created, TIME)) } }
            }
        }
    }
}

fn text(time: OffsetDateTime, format: StaticFormatDescription) -> String {
    // These formats need only the date and the time, which every value has.
    time.format(format).unwrap_or_default()
}

/// Returns a page with one sentence and one link.
pub(crate) fn notice(title: &str, sentence: &str, link: &str, action: &str) -> Markup {
    let content = html! {
        section.card.narrow {
            h1 { (title) }
            p { (sentence) }
            p { a.button href=(link) { (action) } }
        }
    };
    page(title, None, &content)
}
