use proptest::prelude::*;

use super::*;

fn rule(text: &str) -> Rule {
    text.parse().unwrap_or_else(|fault| panic!("{text:?} {fault}"))
}

#[test]
fn a_name_means_itself_and_a_star_what_is_below() {
    for (text, means, not) in [
        (
            "example.com",
            &["example.com", "EXAMPLE.com", "example.com."][..],
            &["a.example.com"][..],
        ),
        ("Example.COM.", &["example.com"], &["xexample.com", "example.com.evil"]),
        (
            "*.example.com",
            &["a.example.com", "A.b.Example.com."],
            &["example.com", ".example.com", "aexample.com", "a.example.com.evil"],
        ),
        ("bücher.example", &["xn--bcher-kva.example"], &["bucher.example"]),
        ("localhost", &["localhost"], &["a.localhost"]),
        ("under_score.example", &["under_score.example"], &[]),
    ] {
        let rule = rule(text);
        for name in means {
            assert!(rule.names(name, 443), "{text} means {name}");
        }
        for name in not {
            assert!(!rule.names(name, 443), "{text} does not mean {name}");
        }
        assert!(!rule.is_by_address());
    }
}

#[test]
fn an_address_may_be_written_as_browsers_read_it() {
    for (text, within, without) in [
        ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
        ("0.0.0.0/0", "8.8.8.8", "::1"),
        ("0x7f.1", "127.0.0.1", "127.0.0.2"),
        ("2130706433", "127.0.0.1", "127.0.0.2"),
        ("fd00::/8", "fdff::1", "fe00::1"),
        ("[fd00::/8]", "fdff::1", "fe00::1"),
        ("::1", "::1", "127.0.0.1"),
        ("[::1]", "::1", "::2"),
        ("::/0", "::1", "127.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1", "10.0.0.2"),
        ("::ffff:10.0.0.0/104", "10.1.2.3", "11.0.0.1"),
    ] {
        let rule = rule(text);
        assert!(rule.covers(within.parse().unwrap(), 1), "{text}: {within}");
        assert!(!rule.covers(without.parse().unwrap(), 1), "{text}: {without}");
        assert!(rule.is_by_address());
        assert!(!rule.names(within, 1), "an address is no name");
    }
}

#[test]
fn a_port_or_a_range_of_them_narrows_a_rule() {
    for (text, first, last) in [
        ("example.com", 1, u16::MAX),
        ("example.com:443", 443, 443),
        ("*.example.com:8000-8999", 8000, 8999),
        ("10.0.0.0/8:80", 80, 80),
        ("[::1]:8080", 8080, 8080),
        ("[fd00::/8]:1-65535", 1, u16::MAX),
    ] {
        let rule = rule(text);
        assert_eq!(rule.ports, first..=last, "{text}");
        assert!(rule.has_port(first) && rule.has_port(last));
    }
    assert!(rule("example.com:443").names("example.com", 443));
    assert!(!rule("example.com:443").names("example.com", 444));
    assert!(!rule("10.0.0.0/8:80").covers("10.0.0.1".parse().unwrap(), 81));
}

#[test]
fn what_is_no_rule_says_why() {
    let long = "x".repeat(RULE_MAX + 1);
    for (text, fault) in [
        ("", NotARule::Empty),
        (long.as_str(), NotARule::TooLong),
        ("http://example.com", NotARule::Url),
        ("example.com/path", NotARule::Block),
        ("10.0.0.0/33", NotARule::Block),
        ("10.1.0.0/8", NotARule::Midst("10.0.0.0/8".parse().unwrap())),
        ("fd00::1/8", NotARule::Midst("fd00::/8".parse().unwrap())),
        ("example.com:", NotARule::Port),
        ("example.com:0", NotARule::Port),
        ("example.com:65536", NotARule::Port),
        ("example.com:+80", NotARule::Port),
        ("example.com:90-80", NotARule::Port),
        ("example.com:80-", NotARule::Port),
        ("example.com:http", NotARule::Port),
        ("*", NotARule::Star),
        ("*example.com", NotARule::Star),
        ("a.*.example.com", NotARule::Star),
        ("*.*.example.com", NotARule::Star),
        ("*.10.0.0.1", NotARule::Host),
        ("[::1", NotARule::Brackets),
        ("[::1]80", NotARule::Brackets),
        ("[10.0.0.1]:80", NotARule::Brackets),
        ("[example.com]:80", NotARule::Brackets),
        ("a b", NotARule::Host),
        (" example.com", NotARule::Host),
        ("example.com ", NotARule::Host),
        ("user@example.com", NotARule::Host),
        ("a..b", NotARule::Host),
        ("*.", NotARule::Host),
        (".", NotARule::Host),
        ("::1:80000", NotARule::Host),
        ("example.com\0", NotARule::Host),
    ] {
        assert_eq!(text.parse::<Rule>(), Err(fault), "{text:?}");
    }
}

#[test]
fn a_list_has_commas_and_names_the_entry_that_is_wrong() {
    let list: RuleList = "localhost, 10.0.0.0/8:80 ,[::1]:1-2,".parse().unwrap();
    assert_eq!(list.0, [rule("localhost"), rule("10.0.0.0/8:80"), rule("[::1]:1-2")]);
    assert_eq!("".parse(), Ok(RuleList::default()));
    let fault = "localhost,10.0.0.1/8".parse::<RuleList>().unwrap_err().to_string();
    assert_eq!(
        fault,
        "\"10.0.0.1/8\" is a block of addresses that begins in its midst: 10.0.0.0/8 is meant"
    );
}

proptest! {
    #[test]
    fn no_text_does_any_harm(text in "\\PC{0,40}|[a-z0-9.:*/\\[\\]-]{0,40}") {
        if let Ok(rule) = text.parse::<Rule>() {
            let _ = rule.names(&text, 1) | rule.covers(Ipv4Addr::LOCALHOST.into(), 1);
        }
    }

    #[test]
    fn no_name_is_taken_for_one_that_it_only_looks_like(
        name in "[a-z0-9.-]{0,20}", suffix in "[a-z]{1,5}\\.[a-z]{1,5}",
    ) {
        let below = rule(&format!("*.{suffix}"));
        let bare = name.strip_suffix('.').unwrap_or(&name);
        let is_below = bare.ends_with(&format!(".{suffix}")) && bare.len() > suffix.len() + 1;
        prop_assert_eq!(below.names(&name, 1), is_below);
    }
}
