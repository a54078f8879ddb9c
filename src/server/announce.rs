//! What the process says on stdout once it answers: where, and how to try it.

use std::io::{self, Write};
use std::net::SocketAddr;

use super::engine::{Addresses, reachable};
use crate::credential::Credential;

/// What there is to say.
pub(super) struct Announcement {
    pub(super) listen: Addresses,
    pub(super) admin: SocketAddr,
    /// The demo key and a model it may call; only a routes.yaml with `hash: generated` has one.
    pub(super) demo: Option<(Credential, String)>,
}

impl Announcement {
    /// Prints it. This is the only place that shows a key.
    ///
    /// # Errors
    /// Nobody reads stdout.
    pub(super) fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(self.text().as_bytes())?;
        out.flush()
    }

    fn text(&self) -> String {
        let plain = self.listen.plain.iter().map(|address| format!("http://{address}"));
        let tls = self.listen.tls.iter().map(|address| format!("https://{address}"));
        let listen: Vec<String> = plain.chain(tls).collect();
        let mut text = format!(
            "forge {} listens on {}\nadmin pages (metrics, health, routes) on http://{}\n",
            env!("CARGO_PKG_VERSION"),
            listen.join(" and "),
            self.admin
        );
        if let (Some((key, model)), Some(address)) = (&self.demo, self.listen.plain.first()) {
            let (url, key) = (format!("http://{}/v1/chat/completions", reachable(*address)), key.reveal());
            text.push_str(&format!("\ndemo key: {key}\ntry it:\n\n  curl {url} \\\n    "));
            text.push_str(&format!("-H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\\n    "));
            text.push_str(&format!("-d '{{\"model\": \"{model}\", \"messages\": "));
            text.push_str("[{\"role\": \"user\", \"content\": \"Hello!\"}]}'\n\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_key_comes_with_a_line_that_works() {
        let key = Credential::parse("sk-demo-0123456789").unwrap();
        let announcement = Announcement {
            listen: Addresses { plain: vec!["0.0.0.0:8080".parse().unwrap()], tls: Vec::new() },
            admin: "127.0.0.1:9090".parse().unwrap(),
            demo: Some((key, "priyo-llama".into())),
        };
        let text = announcement.text();
        assert!(text.contains("curl http://127.0.0.1:8080/v1/chat/completions"), "{text}");
        assert!(text.contains("-H 'Authorization: Bearer sk-demo-0123456789'"), "{text}");
        let body = text.split("-d '").nth(1).and_then(|rest| rest.split('\'').next()).unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["model"], "priyo-llama");
    }

    #[test]
    fn without_a_demo_key_none_is_shown() {
        let announcement = Announcement {
            listen: Addresses { plain: vec!["0.0.0.0:8080".parse().unwrap()], tls: Vec::new() },
            admin: "127.0.0.1:9090".parse().unwrap(),
            demo: None,
        };
        assert!(!announcement.text().contains("key"));
        let tls = vec!["0.0.0.0:8443".parse().unwrap()];
        let announcement = Announcement { listen: Addresses { tls, ..announcement.listen }, ..announcement };
        let expected = "on http://0.0.0.0:8080 and https://0.0.0.0:8443\n";
        assert!(announcement.text().contains(expected), "{}", announcement.text());
    }
}
