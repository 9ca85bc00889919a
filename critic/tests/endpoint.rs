//! A server behind HTTP as the critic's model: well, busy, slow, down and talking nonsense.
#![allow(clippy::unwrap_used)]

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use minicrit_critic::{
    Error,
    case::Verdict,
    critique::{Critic, Endpoint, EndpointSettings, PromptStyle},
    eval::Calibration,
};
use serde_json::{Value, json};

/// Paths and bodies of what was asked.
type Requests = Arc<Mutex<Vec<(String, Value)>>>;

/// Serves the answers in turn, each on a connection of its own, and keeps what was asked.
fn serve(answers: Vec<(u16, String)>) -> (String, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    std::thread::spawn(move || {
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = Vec::new();
            let mut buffer = [0; 4096];
            let (head, rest) = loop {
                let count = stream.read(&mut buffer).unwrap();
                bytes.extend_from_slice(&buffer[..count]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if let Some((head, rest)) = text.split_once("\r\n\r\n") {
                    let length = head
                        .to_lowercase()
                        .split("content-length: ")
                        .nth(1)
                        .map(|it| it.lines().next().unwrap().trim().parse::<usize>().unwrap());
                    if rest.len() >= length.unwrap_or(0) {
                        break (head.to_owned(), rest.to_owned());
                    }
                }
            };
            let value = serde_json::from_str(&rest).unwrap_or(Value::Null);
            seen.lock().unwrap().push((head, value));
            let _ = write!(
                stream,
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    (url, asked)
}

fn completion(text: &str, top: &[(&str, f64)]) -> (u16, String) {
    let top: Vec<Value> =
        top.iter().map(|(token, logprob)| json!({ "token": token, "logprob": logprob })).collect();
    let logprobs = json!({ "content": [{ "token": text, "logprob": -0.1, "top_logprobs": top }] });
    let choice =
        json!({ "message": { "role": "assistant", "content": text }, "logprobs": logprobs });
    (200, json!({ "choices": [choice] }).to_string())
}

fn critic(url: &str, tries: u32) -> Critic {
    critic_within(url, tries, Duration::from_secs(20))
}

fn critic_within(url: &str, tries: u32, timeout: Duration) -> Critic {
    let settings = EndpointSettings {
        url: url.to_owned(),
        model: "judge".into(),
        key: Some("secret".into()),
        timeout,
        tries,
    };
    let backend = Endpoint::new(settings);
    Critic::new(Box::new(backend), PromptStyle::Expert, Calibration::default())
}

#[test]
fn probabilities_are_those_of_the_first_token() {
    let (url, asked) = serve(vec![
        completion(
            "flawed",
            &[
                ("fl", 0.5_f64.ln()),
                (" flawed", 0.25_f64.ln()),
                ("Valid", 0.2_f64.ln()),
                ("I", 0.05_f64.ln()),
            ],
        ),
        completion("The flaw is Small sample.", &[]),
    ]);
    let critique = critic(&url, 1).critique("Two trades won, so all will.").unwrap();
    assert_eq!(
        (critique.verdict, critique.flaw_type.as_deref()),
        (Verdict::Flawed, Some("small sample"))
    );
    assert!((critique.flawed_probability - 0.75 / 0.95).abs() < 1e-9);
    let asked = asked.lock().unwrap();
    assert!(asked[0].0.contains("POST /v1/chat/completions"));
    assert!(asked[0].0.to_lowercase().contains("authorization: bearer secret"));
    assert_eq!(asked[0].1["top_logprobs"], 20);
    assert_eq!(asked[0].1["messages"][0]["role"], "system");
}

#[test]
fn a_busy_server_is_asked_again_and_a_refusing_one_is_not() {
    let good = completion("valid", &[("valid", -0.1), ("flawed", -3.0)]);
    let (url, asked) = serve(vec![(503, "busy".into()), (429, String::new()), good]);
    assert_eq!(critic(&url, 3).critique("It rains.").unwrap().verdict, Verdict::Valid);
    assert_eq!(asked.lock().unwrap().len(), 3);
    let (url, asked) = serve(vec![(401, "no such key".into())]);
    let error = critic(&url, 3).critique("It rains.").unwrap_err().to_string();
    assert!(error.contains("status 401: no such key"), "{error}");
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[test]
fn nonsense_is_named() {
    let answers = [
        completion("Banana", &[("Banana", -0.1)]),
        completion("flawed", &[]),
        (200, "not json".to_owned()),
        (200, "{}".to_owned()),
    ];
    for answer in answers {
        let (url, _) = serve(vec![answer]);
        let error = critic(&url, 1).critique("It rains.").unwrap_err();
        assert!(matches!(error, Error::NoVerdict { .. } | Error::Endpoint { .. }), "{error}");
    }
    let (url, _) =
        serve(vec![completion("flawed", &[("flawed", -0.1)]), completion("something is odd", &[])]);
    assert!(matches!(critic(&url, 1).critique("It rains."), Err(Error::NoVerdict { .. })));
}

#[test]
fn a_server_that_is_down_or_slow_does_not_hang() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let start = std::time::Instant::now();
    let error = critic(&format!("http://{closed}"), 1).critique("It rains.").unwrap_err();
    assert!(matches!(error, Error::Endpoint { .. }), "{error}");
    // It accepts and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let mut impatient = critic_within(&url, 1, Duration::from_millis(400));
    assert!(matches!(impatient.critique("It rains."), Err(Error::Endpoint { .. })));
    assert!(start.elapsed() < Duration::from_secs(60));
}
