use proptest::prelude::*;

use super::*;

/// What Chromium 156 answered on its own WebSocket, taken down message by message.
const REFUSED: &[(&str, &str)] = &[
    ("", r#"{"error":{"code":-32700,"message":"JSON: no input at position 0"}}"#),
    (" ", r#"{"error":{"code":-32700,"message":"JSON: no input at position 1"}}"#),
    ("hello", r#"{"error":{"code":-32700,"message":"JSON: invalid token at position 0"}}"#),
    (
        r#"{"id":1,"method":"Target.setDiscoverTargets""#,
        r#"{"error":{"code":-32700,"message":"JSON: comma or map end expected at position 44"}}"#,
    ),
    (
        r#"{"id":1,"method":"Tar"#,
        r#"{"error":{"code":-32700,"message":"JSON: invalid token at position 17"}}"#,
    ),
    (
        r#"{"id":1,}"#,
        r#"{"error":{"code":-32700,"message":"JSON: unexpected map end at position 8"}}"#,
    ),
    (
        r#"{"a":[1,]}"#,
        r#"{"error":{"code":-32700,"message":"JSON: unexpected array end at position 8"}}"#,
    ),
    (
        r#"{"id":1,//x"#,
        r#"{"error":{"code":-32700,"message":"JSON: string literal expected at position 8"}}"#,
    ),
    (
        "{id:1}",
        r#"{"error":{"code":-32700,"message":"JSON: string literal expected at position 1"}}"#,
    ),
    (r#"{"id"1}"#, r#"{"error":{"code":-32700,"message":"JSON: colon expected at position 5"}}"#),
    (
        r#"{"id":1}x"#,
        r#"{"error":{"code":-32700,"message":"JSON: unprocessed input remains at position 8"}}"#,
    ),
    (
        r#"{"id":1e400}"#,
        r#"{"error":{"code":-32700,"message":"JSON: invalid number at position 6"}}"#,
    ),
    (r#"{"id":01}"#, r#"{"error":{"code":-32700,"message":"JSON: invalid token at position 6"}}"#),
    (
        r#"{"x":"\x41"}"#,
        r#"{"error":{"code":-32700,"message":"JSON: invalid string at position 5"}}"#,
    ),
    (r#"{"x":"\q"}"#, r#"{"error":{"code":-32700,"message":"JSON: invalid token at position 5"}}"#),
    ("[]", r#"{"error":{"code":-32600,"message":"Message must be an object"}}"#),
    ("null", r#"{"error":{"code":-32600,"message":"Message must be an object"}}"#),
    ("{}", r#"{"error":{"code":-32600,"message":"Message must have integer 'id' property"}}"#),
    (
        r#"{"id":1}"#,
        r#"{"id":1,"error":{"code":-32600,"message":"Message must have string 'method' property"}}"#,
    ),
    (
        r#"{"id":1,"method":"é"}"#,
        r#"{"id":1,"error":{"code":-32600,"message":"Message must have string 'method' property"}}"#,
    ),
    (
        r#"{"id":2147483648,"method":"a"}"#,
        r#"{"error":{"code":-32600,"message":"Message must have integer 'id' property"}}"#,
    ),
    (
        r#"{"params":5,"id":"x"}"#,
        r#"{"error":{"code":-32600,"message":"Message may have object 'params' property"}}"#,
    ),
    (
        r#"{"id":1,"sessionId":null}"#,
        r#"{"id":1,"error":{"code":-32600,"message":"Message may have string 'sessionId' property"}}"#,
    ),
    (
        r#"{"id":1,"foo":1}"#,
        r#"{"id":1,"error":{"code":-32600,"message":"Message has property other than 'id', 'method', 'sessionId', 'params'"}}"#,
    ),
    (
        r#"{"id":5,"id":6}"#,
        r#"{"id":5,"error":{"code":-32700,"message":"CBOR: duplicate map key at position 12"}}"#,
    ),
    (
        r#"{"id":1,"method":"Foo.bar","method":"x"}"#,
        r#"{"id":1,"error":{"code":-32700,"message":"CBOR: duplicate map key at position 27"}}"#,
    ),
    (
        r#"{"id":1,"method":"Target.setDiscoverTargets","params":{},"params":{}}"#,
        r#"{"id":1,"error":{"code":-32700,"message":"CBOR: duplicate map key at position 62"}}"#,
    ),
    (
        r#"{"method":"Target.setDiscoverTargets","id":-70000,"id":1}"#,
        r#"{"id":-70000,"error":{"code":-32700,"message":"CBOR: duplicate map key at position 50"}}"#,
    ),
    (r#"{"é":1}"#, r#"{"error":{"code":-32700,"message":"CBOR: invalid map key at position 8"}}"#),
];

#[test]
fn what_is_no_command_is_refused_in_chromes_words() {
    for (message, answer) in REFUSED {
        let refusal = scan(message.as_bytes()).expect_err(message);
        assert_eq!(refusal.answer(), *answer, "{message}");
    }
}

#[test]
fn nesting_ends_where_chromes_does() {
    let nested = |levels: usize| {
        format!(
            r#"{{"id":1,"method":"a","params":{{"x":{}1{}}}}}"#,
            "[".repeat(levels),
            "]".repeat(levels)
        )
    };
    assert!(scan(nested(298).as_bytes()).is_ok());
    let refusal = scan(nested(299).as_bytes()).unwrap_err();
    assert!(refusal.message.starts_with("JSON: stack limit exceeded"), "{}", refusal.message);
}

#[test]
fn odd_spellings_of_a_command_are_commands() {
    for (message, id) in [
        (r#"{"id":0,"method":"a.b"}"#, 0),
        (r#"{"id":-1,"method":"a.b"}"#, -1),
        (r#"{"id":1.0,"method":"a.b"}"#, 1),
        (r#"{"id":1e2,"method":"a.b"}"#, 100),
        (" \t\r\n\u{b}\u{c}{ \"id\" : 7 , \"method\" : \"a.b\" } \n", 7),
        (r#"{"\u0069d":3,"m\u0065thod":"a\u002eb"}"#, 3),
        (r#"{"method":"","id":4,"method":"a.b"}"#, 4),
    ] {
        let command = scan(message.as_bytes()).expect(message);
        assert_eq!((command.id, command.method.as_ref()), (id, "a.b"), "{message}");
        assert_eq!(message.as_bytes()[command.end], b'}');
    }
}

/// What a message is without its raw NULs.
fn clean(message: &[u8]) -> String {
    match scan(message).unwrap().clean {
        Some(Clean::Message(clean)) => String::from_utf8(clean).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn raw_nuls_are_replaced_in_strings_and_refused_elsewhere() {
    assert_eq!(
        clean(b"{\"id\":1,\"method\":\"a\",\"params\":{\"x\0\":\"\0\0\"}}"),
        r#"{"id":1,"method":"a","params":{"x\u0000":"\u0000\u0000"}}"#,
    );
    assert_eq!(scan(br#"{"id":1,"method":"a","params":{"x":"\u0000"}}"#).unwrap().clean, None);
    assert!(scan(b"{\"id\":1,\0\"method\":\"a\"}").is_err());
    assert!(scan(b"\0").is_err());
}

#[test]
fn a_message_that_is_too_long_without_raw_nuls_is_not_kept() {
    let message = format!(r#"{{"id":1,"method":"a","params":["{}"]}}"#, "\0".repeat(LONGEST / 6));
    let command = scan(message.as_bytes()).unwrap();
    assert_eq!((command.id, &command.clean), (1, &Some(Clean::TooLong)));
}

#[test]
fn the_last_letter_of_a_word_may_be_anything_as_in_chrome_even_nul() {
    let command = scan(b"{\"id\":1,\"method\":\"a\",\"params\":nul}}").unwrap();
    assert_eq!(command.end, 34);
    let message = b"{\"id\":1,\"method\":\"a\",\"params\":nul\0}";
    assert_eq!(clean(message), r#"{"id":1,"method":"a","params":null}"#);
}

proptest! {
    /// Whatever comes, Chrome gets a message that reads as one command.
    #[test]
    fn what_serde_reads_is_read_the_same(
        id in any::<i32>(),
        method in "[A-Za-z.]{1,20}",
        session in proptest::option::of("[A-F0-9]{0,32}"),
        text in any::<String>(),
    ) {
        let mut message = serde_json::json!({ "params": { "x": text }, "id": id, "method": method });
        if let Some(session) = &session {
            message["sessionId"] = session.as_str().into();
        }
        let message = message.to_string();
        let command = scan(message.as_bytes()).unwrap();
        prop_assert_eq!(command.id, id);
        prop_assert_eq!(command.method.as_ref(), &method);
        prop_assert_eq!(command.session.as_ref(), session.as_deref().unwrap_or(""));
        prop_assert_eq!(command.end, message.len() - 1);
    }

    #[test]
    fn no_input_makes_the_scanner_panic(message in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = scan(&message);
    }

    #[test]
    fn no_mixture_of_tokens_makes_the_scanner_panic(
        tokens in prop::collection::vec(
            prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"id\"", "\"method\"", "\"params\"", "\"sessionId\"",
                "1", "-1.5e3", "\"\\u00e9\"", "\"é\"", "null", "true", " ", "\"", "\\", "\0",
            ]),
            0..24,
        ),
    ) {
        let _ = scan(tokens.concat().as_bytes());
    }
}
