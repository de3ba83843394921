//! Who is let in on the data plane, and how the others are told.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use harness::{Api, Server, cdp::Cdp, eventually};
use http::{Method, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, client::IntoClientRequest},
};

/// What an upgrade is refused with: the status, and the problem's slug. `None`: it is not.
async fn refusal(url: &str, bearer: Option<&str>) -> Option<(u16, String)> {
    let mut request = url.into_client_request().unwrap();
    if let Some(token) = bearer {
        let value = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    let response = match connect_async(request).await {
        Ok(_) => return None,
        Err(Error::Http(response)) => response,
        Err(error) => panic!("{url} was not refused over HTTP: {error}"),
    };
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    let body: Value = serde_json::from_slice(response.body().as_deref().unwrap()).unwrap();
    assert_eq!(body["status"], response.status().as_u16());
    assert!(body["request_id"].is_string(), "{body}");
    let (_, slug) = body["type"].as_str().unwrap().rsplit_once("/errors/").unwrap();
    Some((response.status().as_u16(), slug.to_owned()))
}

async fn refused(url: &str, bearer: Option<&str>) -> (u16, String) {
    refusal(url, bearer).await.unwrap_or_else(|| panic!("{url} was not refused"))
}

/// A part of a token, decoded.
fn part(token: &str, n: usize) -> Value {
    let part = token.split('.').nth(n).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Tokens that look right and are not.
async fn forgeries(api: &Api, token: &str) -> Vec<(&'static str, String)> {
    let parts: Vec<_> = token.split('.').collect();
    let [head, claims, signature] = parts[..] else { panic!("three parts") };
    let header = part(token, 0);
    assert_eq!(header["alg"], "EdDSA");
    let kid = header["kid"].as_str().unwrap();
    let mut longer = part(token, 1);
    longer["exp"] = json!(longer["exp"].as_i64().unwrap() + 1);

    let with = |algorithm, key: &EncodingKey| {
        let header = Header { kid: Some(kid.into()), ..Header::new(algorithm) };
        encode(&header, &part(token, 1), key).unwrap()
    };
    let keys = Api::new(&api.base_url, None).get("/.well-known/jwks.json").await.body;
    let public = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == kid).unwrap();
    let public = URL_SAFE_NO_PAD.decode(public["x"].as_str().unwrap()).unwrap();
    // an Ed25519 key of our own (RFC 8410: the seed behind a fixed PKCS #8 prefix)
    let prefix = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let own = EncodingKey::from_ed_der(&[&prefix[..], &[7; 32]].concat());
    let none = json!({ "alg": "none", "typ": "JWT", "kid": kid });
    let unknown = json!({ "alg": "EdDSA", "typ": "JWT", "kid": "unknown" });
    vec![
        ("empty", String::new()),
        ("no token at all", "nonsense".into()),
        ("three empty parts", "..".into()),
        ("no signature", format!("{head}.{claims}.")),
        ("two parts", format!("{head}.{claims}")),
        ("other claims", format!("{head}.{}.{signature}", encoded(&longer))),
        ("alg none", format!("{}.{claims}.", encoded(&none))),
        ("alg none, signed", format!("{}.{claims}.{signature}", encoded(&none))),
        ("unknown key", format!("{}.{claims}.{signature}", encoded(&unknown))),
        ("signed by another key", with(Algorithm::EdDSA, &own)),
        ("HS256 with the public key", with(Algorithm::HS256, &EncodingKey::from_secret(&public))),
        ("HS512 with the public key", with(Algorithm::HS512, &EncodingKey::from_secret(&public))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_sessions_own_token_opens_its_door() {
    let server = Server::up().capacity(2, 0).start().await;
    let api = &server.api;
    let (session, other) = (api.create(json!({})).await, api.create(json!({})).await);
    let (endpoint, _) = session.connect_url().split_once('?').unwrap();
    let unauthorized = (401, "unauthorized".to_owned());
    let forbidden = (403, "forbidden".to_owned());

    assert_eq!(refused(endpoint, None).await, unauthorized);
    for (what, token) in forgeries(api, session.token()).await {
        let url = format!("{endpoint}?token={token}");
        assert_eq!(refused(&url, None).await, unauthorized, "{what}");
        assert_eq!(refused(endpoint, Some(&token)).await, unauthorized, "{what}, as a header");
        let discovery = format!("/v1/sessions/{}/cdp/json/version?token={token}", session.id());
        let answer = Api::new(&api.base_url, None).get(&discovery).await;
        assert_eq!((answer.status, answer.problem()), (401, "unauthorized"), "{what}");
    }
    // the API key is no connect token, and the other way round
    let key = server.key().unwrap();
    assert_eq!(refused(endpoint, Some(&key)).await, unauthorized);
    let answer = Api::new(&api.base_url, Some(session.token())).get("/v1/sessions").await;
    assert_eq!((answer.status, answer.problem()), (401, "unauthorized"));

    // another session's token
    assert_eq!(refused(&format!("{endpoint}?token={}", other.token()), None).await, forbidden);
    for path in ["devtools/browser/x", "json/version", "devtools/page/x"] {
        let url = format!("{endpoint}/{path}?token={}", other.token());
        assert_eq!(refused(&url, None).await, forbidden, "{path}");
    }
    // other paths are never taken for the browser
    for path in ["nothing", "devtools", "json/nothing", "cdp"] {
        let url = format!("{endpoint}/{path}?token={}", session.token());
        assert_eq!(refused(&url, None).await.0, 404, "{path}");
    }
    // the token as a header opens it, and no attempt has touched the browser
    let mut request = endpoint.into_client_request().unwrap();
    let value = format!("Bearer {}", session.token()).parse().unwrap();
    request.headers_mut().insert(header::AUTHORIZATION, value);
    drop(connect_async(request).await.expect("the token as a header"));
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let contexts = cdp.call(None, "Target.getBrowserContexts", json!({})).await;
    assert_eq!(contexts["browserContextIds"], json!([]));
    cdp.close().await;

    // over, once the agent has heard of it: 410, also for a token that is good as such
    api.release(session.id()).await;
    let refusal = eventually("the door is closed", Duration::from_secs(5), || {
        refusal(session.connect_url(), None)
    });
    assert_eq!(refusal.await, (410, "gone".to_owned()));
    let discovery = format!("/json/version?token={}", session.token());
    let answer = Api::new(&api.base_url, None).get(&discovery).await;
    assert_eq!((answer.status, answer.problem()), (410, "gone"));
    // but still not for anyone else
    assert_eq!(refused(endpoint, None).await, unauthorized);
    let ended = api.send(Method::DELETE, &format!("/v1/sessions/{}", other.id()), &[], None).await;
    assert_eq!(ended.status, 204);
    server.at_rest(0).await;
    server.stop().await;
}
