//! A bucket, played by moto: a stand-in for S3 that speaks its protocol on loopback.
//! `scripts/python-clients` installs it.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use super::*;

const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/clients/.venv/bin/python");
/// Says its port when it listens, and ends with its standard input.
const SERVER: &str = "
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
";

struct S3 {
    server: Child,
    port: u16,
}

impl S3 {
    fn start() -> Self {
        let mut server = Command::new(PYTHON)
            .args(["-c", SERVER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto is not there: run scripts/python-clients");
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("moto did not start: run scripts/python-clients");
        Self { server, port }
    }

    fn variables(&self, region: &str) -> Vec<(String, String)> {
        [
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "s3cret-access-key"),
            ("AWS_REGION", region),
            ("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{}", self.port)),
            ("HOME", "/"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    fn open(&self, url: &str) -> Objects {
        Objects::open(url, self.variables("us-east-1").into_iter()).unwrap()
    }

    /// Makes a bucket: `PUT /bucket`, which needs no signature here.
    async fn make_bucket(&self, name: &str) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let request = format!(
            "PUT /{name} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.port
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    fn stop(&mut self) {
        drop(self.server.stdin.take());
        self.server.wait().unwrap();
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.stop();
    }
}

on_both_databases! {
    async fn large_contents_go_to_the_bucket_and_leave_it(app: TestApp) {
        let s3 = S3::start();
        s3.make_bucket("profiles-of-tests").await;
        let app = app.with_objects(s3.open("s3://profiles-of-tests/some/prefix")).await;
        let profile = made(&app, "large", &large()).await;
        assert_eq!(objects(&app).await, 1);
        assert_eq!(held(&app, &profile).send().await.expect(200), large());
        assert!(replace(&app, &profile, &large()).await);
        assert_eq!(objects(&app).await, 1);
        let orphan = large().to_string();
        let id = ProfileId::generate();
        content::prepare(&app.app, app.workspace, id, orphan.as_bytes()).await.unwrap();
        sweep::orphans(&app.app, Duration::ZERO).await.unwrap();
        assert_eq!(objects(&app).await, 1);
        app.call(Method::DELETE, &path_of(&profile)).send().await.expect(204);
        assert_eq!(objects(&app).await, 0);
        // Another prefix of the bucket is another store.
        let elsewhere = s3.open("s3://profiles-of-tests");
        assert_eq!(elsewhere.older_than(Duration::ZERO).await.unwrap().len(), 0);
        app.app.db.close().await;
    }

    async fn a_bucket_that_cannot_be_used_is_worth_another_try(app: TestApp) {
        let mut s3 = S3::start();
        s3.make_bucket("profiles-of-tests").await;
        let known = app.with_objects(s3.open("s3://profiles-of-tests")).await;
        let profile = made(&known, "large", &large()).await;
        let unknown = app.with_objects(s3.open("s3://no-such-bucket")).await;
        held(&unknown, &profile).send().await.problem(500, "internal");
        s3.stop();
        for call in [create(&known, "n", &large()), held(&known, &profile)] {
            let answer = call.send().await;
            assert!(answer.headers.contains_key("retry-after"));
            answer.problem(503, "insufficient-capacity");
        }
        // It is only slower to go.
        known.call(Method::DELETE, &path_of(&profile)).send().await.expect(204);
        made(&known, "small", &state("t")).await;
        for replica in [known, unknown] {
            replica.app.db.close().await;
        }
    }
}

#[test]
fn only_a_directory_or_a_bucket_is_an_object_store() {
    for bad in [
        "",
        "/var/lib",
        "http://bucket/prefix",
        "s3://",
        "s3://user:s3cret@bucket",
        "s3://bucket?key=s3cret",
        "file://elsewhere/directory",
    ] {
        let error = Objects::open(bad, std::iter::empty()).err().unwrap();
        assert!(!format!("{error:#}").contains("s3cret"), "{bad}");
    }
}
