use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use super::*;

fn mail() -> Mail {
    Mail {
        to: "Ada@Example.org".parse().unwrap(),
        subject: "Sign in to Ventus".to_owned(),
        before: "Sign in here:".to_owned(),
        link: format!(
            "https://ventus.example.org:8443/sign-in#token=vm_{}.{}",
            "0".repeat(26),
            "x".repeat(32)
        ),
        after: "Once.".to_owned(),
    }
}

#[tokio::test]
async fn without_smtp_a_mail_is_a_private_file_with_the_link_on_a_line() {
    let data = tempfile::tempdir().unwrap();
    let mailer = Mailer::open(None, data.path()).unwrap();
    mailer.attempts(&mail()).await;
    let directory = data.path().join("mail");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    let files: Vec<_> =
        fs::read_dir(&directory).unwrap().map(|file| file.unwrap().path()).collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    assert_eq!((mode(file), file.extension().unwrap()), (0o600, "eml".as_ref()));
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains("To: Ada@Example.org\r\n"), "{text}");
    assert!(text.lines().any(|line| line == mail().link), "{text}");
    mailer.forget_old().await;
    assert!(file.exists());
    let old = std::time::SystemTime::now() - Duration::from_secs(8 * 24 * 3_600);
    fs::File::options().write(true).open(file).unwrap().set_modified(old).unwrap();
    mailer.forget_old().await;
    assert!(!file.exists());
}

#[test]
fn a_wrong_configuration_is_told_without_its_secrets() {
    let open = |url: &str, from: &str| {
        let config = MailConfig { url: url.to_owned(), password: None, from: from.to_owned() };
        Mailer::open(Some(&config), Path::new("/nonexistent"))
    };
    let from = "Ventus <ventus@example.org>";
    for good in [
        "smtp://127.0.0.1:2525",
        "smtps://u:secret@mail.example.org",
        "smtp://u:secret@mail.example.org:587?tls=required",
    ] {
        assert!(open(good, from).is_ok(), "{good}");
    }
    for bad in ["", "mail.example.org", "http://u:secret@mail", "smtp://u:secret@mail?tls=maybe"] {
        let error = open(bad, from).err().unwrap();
        assert!(!format!("{error:#}").contains("secret"), "{error:#}");
    }
    assert!(open("smtp://127.0.0.1", "nobody").is_err());
}
