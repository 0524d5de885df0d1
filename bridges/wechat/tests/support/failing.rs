//! Logins that must fail.

use reqwest::Method;

use super::{MAGIC, service::Service};

impl Service {
    /// Returns the status and the message of a login that fails. Checks that nothing is stored.
    pub(crate) async fn refuses(&self, code: &str, data: &str, iv: &str) -> (u16, String) {
        let names = [("X-WX-Code", code), ("X-WX-Encrypted-Data", data), ("X-WX-IV", iv)];
        let answer = self.client().wx_request(Method::GET, "/api/login", &names, None).await;
        assert_eq!(answer.data[MAGIC], 1, "{code}: {}", answer.data);
        assert_eq!(answer.data["error"], "ERR_LOGIN_FAILED", "{code}");
        assert!(answer.data.get("session").is_none(), "{code}");
        assert_eq!(self.storage.clear("").await.unwrap(), 0, "{code}: something is stored");
        (answer.status, answer.data["message"].as_str().unwrap().to_owned())
    }
}
