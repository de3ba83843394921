//! Files as a way out of a session: by their names, by their size, by other sessions.

use harness::{Server, cdp::Cdp, eventually};
use http::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn no_name_of_a_file_leads_anywhere() {
    let server = Server::up().capacity(1, 1).start().await;
    let session = server.api.create(json!({})).await;
    let of = |kind: &str, name: &str| format!("/v1/sessions/{}/{kind}/{name}", session.id());
    for name in [
        "..%2Fx",
        "..%2F..%2F..%2F..%2Ftmp%2Fventus-hostile",
        "%2Ftmp%2Fventus-hostile",
        ".hidden",
        "a%00b",
        "a%0d%0ab",
        "..%5Cx",
        "%ff%fe",
    ] {
        let put = server.api.put(&of("uploads", name), b"x".to_vec()).await;
        assert_eq!(put.status, 400, "{name}: {}", put.body);
        for kind in ["uploads", "downloads"] {
            let got = server.api.get(&of(kind, name)).await;
            assert!(matches!(got.status, 400 | 404), "{kind}/{name}: {}", got.body);
        }
    }
    // Odd, but one name: it is put, found, and removed.
    for name in ["%252e%252e%252fx", "-rf", "~", "a%20%27%22%3Cb%3E", "%F0%9F%98%80", "nul"] {
        let put = server.api.put(&of("uploads", name), b"x".to_vec()).await;
        assert_eq!(put.status, 201, "{name}: {}", put.body);
        assert_eq!(server.api.bytes(&of("uploads", name), None).await.1, b"x");
        let gone = server.api.send(Method::DELETE, &of("uploads", name), &[], None).await;
        assert_eq!(gone.status, 204, "{name}: {}", gone.body);
    }
    assert!(!std::path::Path::new("/tmp/ventus-hostile").exists());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_cannot_choose_where_its_downloads_go() {
    let server = Server::up().capacity(1, 1).start().await;
    let session = server.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let (_, page) = cdp.page("about:blank").await;
    let names =
        ["../../../../tmp/ventus-hostile.txt", "/tmp/ventus-hostile.txt", "..\\x.txt", "good.txt"];
    for name in names {
        let script = format!(
            "{{ const a = document.createElement('a'); a.download = {name:?};
                a.href = URL.createObjectURL(new Blob(['x'])); a.click() }}"
        );
        let click = json!({ "expression": script, "userGesture": true });
        cdp.call(Some(&page), "Runtime.evaluate", click).await;
    }
    let path = format!("/v1/sessions/{}/downloads", session.id());
    let listed = eventually("all are kept", harness::PATIENCE, || async {
        let listed = server.api.get(&path).await.body["items"].as_array().cloned()?;
        (listed.len() == names.len()).then_some(listed)
    })
    .await;
    for file in &listed {
        let name = file["name"].as_str().unwrap();
        assert!(!name.contains(['/', '\\']) && !name.starts_with('.'), "{name}");
    }
    assert!(listed.iter().any(|file| file["name"] == "good.txt"));
    assert!(!std::path::Path::new("/tmp/ventus-hostile.txt").exists());
    cdp.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_a_file_is_refused_before_it_is_sent() {
    let server = Server::up().capacity(1, 1).start().await;
    let session = server.api.create(json!({})).await;
    let path = format!("/v1/sessions/{}/uploads/x", session.id());
    // Its length is announced, and nothing of it comes.
    let length = (256_u64 << 20) + 1;
    let headers = [("content-length", length.to_string())];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let refused = server.api.send(Method::PUT, &path, &headers, None).await;
    assert_eq!((refused.status, refused.problem()), (413, "payload-too-large"));
    let fits = server.api.put(&path, vec![0; 1 << 20]).await;
    assert_eq!(fits.status, 201, "{}", fits.body);
    server.stop().await;
}
