//! The usual mistakes and their sentences.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;

/// 2026-11-26
const TODAY: Day = Day::at(Duration::from_secs(1_795_651_200));
const SHIPPED: &str = include_str!("../../profiles.json");

fn of(file: &[u8]) -> Findings {
    check(file, TODAY)
}

fn mistake(file: &str) -> String {
    let Findings { mistakes, .. } = of(file.as_bytes());
    assert_eq!(mistakes.len(), 1, "{file}: {mistakes:#?}");
    mistakes.into_iter().next().unwrap()
}

fn with(profile: &Value) -> Findings {
    of(json!({ "default": profile }).to_string().as_bytes())
}

fn with_session(session: &Value) -> Findings {
    with(&json!({"kind": "realtime", "session": session}))
}

/// A profile with one field, which writes to `at` in a session that has all kinds of places.
fn with_field(at: &Value, allow: &Value) -> Findings {
    with(&json!({"kind": "realtime", "session": session(), "caller_may_set": {"field": {"at": at, "allow": allow}}}))
}

fn session() -> Value {
    json!({"model": "gpt-realtime-2.1", "instructions": ["One.", "Two."], "max_output_tokens": 512,
        "audio": {"output": {"voice": "ash", "speed": 1.0}, "input": {"transcription": {"model": "gpt-live-transcribe"}}}})
}

#[track_caller]
fn assert_mistakes(findings: &Findings, sentences: &[&str]) {
    let expected: Vec<_> = sentences.iter().map(|sentence| format!("profile \"default\": {sentence}")).collect();
    assert_eq!(findings.mistakes, expected);
}

#[track_caller]
fn assert_warnings(findings: &Findings, sentences: &[&str]) {
    let expected: Vec<_> = sentences.iter().map(|sentence| format!("profile \"default\": {sentence}")).collect();
    assert_eq!((&findings.mistakes, &findings.warnings), (&Vec::new(), &expected));
}

#[test]
fn the_shipped_file_has_no_mistake() {
    assert_eq!(of(SHIPPED.as_bytes()).mistakes, [""; 0]);
}

#[test]
fn a_syntax_error_is_reported_with_its_line() {
    for (file, sentence) in [
        ("{\n  \"a\": 1,\n}", "line 2, column 9: there is a comma after the last entry. Remove the comma."),
        ("{\"a\": [1, 2,\n ]}", "line 1, column 12: there is a comma after the last entry. Remove the comma."),
        ("{\n  // voices\n  \"a\": 1}", "line 2, column 3: JSON has no comments. Remove this one."),
        ("{\"a\": 1, /* x */ \"b\": 2}", "line 1, column 10: JSON has no comments. Remove this one."),
        ("{\"a\": # x\n1}", "line 1, column 7: JSON has no comments. Remove this one."),
        ("{\"a\": 1}\n// x", "line 2, column 1: JSON has no comments. Remove this one."),
        ("{\"a\": 'x'}", "line 1, column 7: JSON has double quotes only. Write \" in place of '."),
        ("{\"a\": “x”}", "line 1, column 7: this is a typographic quote. Write \" in its place."),
        ("{a: 1}", "line 1, column 2: a name must be in double quotes. Put \" around it."),
        (
            "{\"a\": True}",
            "line 1, column 7: this is not a JSON value. Put text in double quotes, or write true, false or null.",
        ),
        (
            "{\"a\": alloy}",
            "line 1, column 7: this is not a JSON value. Put text in double quotes, or write true, false or null.",
        ),
        ("{\"a\": 1\n \"b\": 2}", "line 2, column 2: a comma is missing before this."),
        ("{\"a\": [\"x\" \"y\"]}", "line 1, column 12: a comma is missing before this."),
        ("{\"a\": 1,, \"b\": 2}", "line 1, column 9: there is a comma too many. Remove it."),
        ("{\"a\" 1}", "line 1, column 6: a colon is missing between a name and its value."),
        (
            "{\"a\": {\"b\": 1}\n",
            "line 1, column 15: the file ends too early. A closing bracket, brace or quote is missing.",
        ),
        ("{\"a\": 1}}", "line 1, column 9: the JSON has ended before this. Remove the rest."),
        (
            "{\"ä\": 01}",
            "line 1, column 8: this is not a number that JSON can hold. Write numbers such as 1, -2 or 0.5.",
        ),
        ("{\"a\": 1]", "line 1, column 8: \"]\" does not belong here."),
        (
            "{\"a\": \"one\ntwo\"}",
            "line 2, column 1: text cannot contain a line break or a tab. Write \\n or \\t, or add the missing quote.",
        ),
        (
            "{\"a\": \"C:\\x\"}",
            "line 1, column 11: a backslash begins an escape that JSON does not have. Write \\\\ for a backslash.",
        ),
        ("", "the file is empty. It must be an object with at least the profile \"default\"."),
        (" \n", "the file is empty. It must be an object with at least the profile \"default\"."),
        ("[]", "the file must be an object with a profile under each name, but it is a list."),
    ] {
        assert_eq!(mistake(file), sentence, "{file}");
    }
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert!(mistake(&deep).ends_with("lists and objects are nested too deeply."));
}

#[test]
fn a_file_in_another_encoding_is_named() {
    let marked = [b"\xef\xbb\xbf", SHIPPED.as_bytes()].concat();
    assert_eq!(of(&marked).mistakes, ["the file begins with a byte-order mark. Save it as UTF-8 without one."]);
    assert_eq!(of(b"\xff\xfe{\0}\0").mistakes, ["the file is UTF-16. Save it as UTF-8."]);
    let latin = [b"{\n  \"K", &[0xe4][..], b"the\": 1}"].concat();
    assert_eq!(of(&latin).mistakes, ["line 2, column 5: this is not UTF-8. Save the file as UTF-8."]);
}

#[test]
fn a_duplicate_name_is_a_mistake() {
    let profile = json!({"kind": "realtime", "session": session()});
    assert_eq!(
        mistake(&format!("{{\"default\": {profile}, \"default\": {profile}}}")),
        "two profiles are named \"default\". Rename one of them."
    );
    let twice =
        format!("{{\"default\": {{\"kind\": \"realtime\", \"kind\": \"realtime\", \"session\": {}}}}}", session());
    assert_eq!(mistake(&twice), "\"kind\" appears twice in default. Remove one of them.");
}

#[test]
fn a_file_needs_a_default_profile() {
    let profile = json!({"kind": "realtime", "session": session()});
    let sentence = "there is no profile named \"default\", which serves every caller that names none.";
    assert_eq!(mistake(&json!({ "train": profile }).to_string()), sentence);
    assert_eq!(
        mistake(&json!({ "defualt": profile }).to_string()),
        format!("{sentence} Rename \"defualt\" if it is meant to be that one.")
    );
}

#[test]
fn a_profile_has_its_fields_and_no_others() {
    let there_are = "Known fields: \"kind\", \"token_ttl_seconds\", \"call\", \"session\" and \"caller_may_set\".";
    for (profile, sentence) in [
        (json!("x"), "it must be an object with \"kind\", \"token_ttl_seconds\", \"call\", \"session\" and \"caller_may_set\", but it is \"x\".".to_owned()),
        (
            json!({"kind": "realtime", "session": session(), "caller_can_set": {}}),
            format!("the profile has the unknown field \"caller_can_set\". {there_are} Did you mean \"caller_may_set\"?"),
        ),
        (
            json!({"kind": "realtime", "sesion": session()}),
            format!("the profile has the unknown field \"sesion\". {there_are} Did you mean \"session\"?"),
        ),
        (
            json!({"kind": "realtime", "session": session(), "comment": "x"}),
            format!("the profile has the unknown field \"comment\". {there_are}"),
        ),
        (json!({"session": session()}), "\"kind\" is missing. It must be \"realtime\", \"transcription\" or \"translation\".".to_owned()),
        (
            json!({"kind": "realtme", "session": session()}),
            "\"kind\" is \"realtme\", but must be \"realtime\", \"transcription\" or \"translation\". Did you mean \"realtime\"?".to_owned(),
        ),
        (json!({"kind": "realtime"}), "\"session\" is missing. It must be the session document for OpenAI.".to_owned()),
        (json!({"kind": "realtime", "session": "x"}), "\"session\" must be an object, but it is \"x\".".to_owned()),
        (
            json!({"kind": "realtime", "session": session(), "token_ttl_seconds": 9}),
            "\"token_ttl_seconds\" is 9, but must be a whole number of seconds from 10 to 7200.".to_owned(),
        ),
        (
            json!({"kind": "realtime", "session": session(), "token_ttl_seconds": "600"}),
            "\"token_ttl_seconds\" is \"600\", but must be a whole number of seconds from 10 to 7200. Write the number without quotes.".to_owned(),
        ),
        (
            json!({"kind": "realtime", "session": session(), "caller_may_set": ["voice"]}),
            "\"caller_may_set\" must be an object with a rule for each field, but it is a list.".to_owned(),
        ),
    ] {
        assert_mistakes(&with(&profile), &[&sentence]);
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let profile = json!({"kind": "realtme", "token_ttl_seconds": 9, "session": session(), "caller_can_set": {}});
    let all = json!({"default": profile, "train": {"kind": "realtime", "session": {"voice": "ash", "model": "x"}}});
    assert_eq!(of(all.to_string().as_bytes()).mistakes.len(), 4);
}

#[test]
fn a_session_is_checked_against_openais_schema() {
    let sentence = |session: Value| {
        let findings = with_session(&session);
        assert_eq!(findings.mistakes.len(), 1, "{session}: {findings:#?}");
        findings.mistakes[0].strip_prefix("profile \"default\": ").unwrap().to_owned()
    };
    for (session, expected) in [
        (json!({"type": "realtime"}), "the session has a \"type\". Remove it: the profile's \"kind\" says the same."),
        (json!({"instructions": 5}), "\"/instructions\" is 5, but must be text or a list of text."),
        (
            json!({"instructions": ["a", 1]}),
            "\"/instructions/1\" is 1, but each entry of \"instructions\" must be text.",
        ),
        (
            json!({"voice": "ash"}),
            "\"/voice\" was a field of OpenAI's beta API. Move the value to \"/audio/output/voice\".",
        ),
        (
            json!({"modalities": ["text"]}),
            "\"/modalities\" was a field of OpenAI's beta API. Write [\"audio\"] or [\"text\"] at \"/output_modalities\" instead.",
        ),
        (
            json!({"turn_detection": null}),
            "\"/turn_detection\" was a field of OpenAI's beta API. Move the value to \"/audio/input/turn_detection\".",
        ),
        (json!({"temperature": 0.8}), "\"/temperature\" was a field of OpenAI's beta API and is gone. Remove it."),
        (json!({"audio": {"output": {"speed": 9}}}), "\"/audio/output/speed\" is 9, but OpenAI accepts 0.25 to 1.5."),
        (
            json!({"audio": {"output": {"speed": "1.0"}}}),
            "\"/audio/output/speed\" is \"1.0\", but OpenAI accepts a number. Write the number without quotes.",
        ),
        (
            json!({"audio": {"input": {"turn_detection": {"type": "semantic", "eagerness": "low"}}}}),
            "\"/audio/input/turn_detection/type\" is \"semantic\", but OpenAI accepts \"server_vad\" or \"semantic_vad\". Did you mean \"semantic_vad\"?",
        ),
        (
            json!({"audio": {"input": {"turn_detection": "none"}}}),
            "\"/audio/input/turn_detection\" is \"none\", but OpenAI accepts null or an object.",
        ),
        (json!({"tools": {}}), "\"/tools\" is an object, but OpenAI accepts a list."),
        (json!({"tools": [{"name": "x"}]}), "\"/tools/0/type\" is missing, and OpenAI requires it."),
        (json!({"max_output_tokens": 5000}), "\"/max_output_tokens\" is 5000, but OpenAI accepts 1 to 4096."),
        (
            json!({"max_output_tokens": "100"}),
            "\"/max_output_tokens\" is \"100\", but OpenAI accepts \"inf\". Write the number without quotes.",
        ),
        (
            json!({"output_modalities": ["audoi"]}),
            "\"/output_modalities/0\" is \"audoi\", but OpenAI accepts \"text\" or \"audio\". Did you mean \"audio\"?",
        ),
        (
            json!({"audio": {"output": {"voice": "Alloy"}}}),
            "\"/audio/output/voice\" is \"Alloy\", but OpenAI writes that voice \"alloy\".",
        ),
        (
            json!({"audio": {"output": {"voice": 5}}}),
            "\"/audio/output/voice\" is 5, but OpenAI accepts text or an object.",
        ),
        (
            json!({"audio": {"input": {"noise_reduction": {"type": "near", "strength": 1}}}}),
            "\"/audio/input/noise_reduction/type\" is \"near\", but OpenAI accepts \"near_field\" or \"far_field\".",
        ),
    ] {
        assert_eq!(sentence(session), expected);
    }
}

#[test]
fn a_field_that_the_schema_does_not_have_is_a_warning() {
    let model = "gpt-realtime-2.1";
    for (session, sentence) in [
        (
            json!({"model": model, "instruction": "x"}),
            "OpenAI's schema has no \"/instruction\". Did you mean \"instructions\"?",
        ),
        (
            json!({"model": model, "audio": {"voice": "ash"}}),
            "OpenAI's schema has no \"/audio/voice\". OpenAI accepts it at \"/audio/output/voice\".",
        ),
        (
            json!({"model": model, "audio": {"output": {"pitch": 1}}}),
            "OpenAI's schema has no \"/audio/output/pitch\". Known fields there: \"format\", \"voice\" and \"speed\".",
        ),
        (json!({"audio": {}}), "the session names no model at \"/model\", so OpenAI chooses one."),
    ] {
        assert_warnings(&with_session(&session), &[sentence]);
    }
    let custom = json!({"model": model, "audio": {"output": {"voice": {"id": "voice_1234"}},
        "input": {"noise_reduction": {"type": "near_field", "strength": 0.5}}}});
    assert_eq!(with_session(&custom), Findings::default());
}

#[test]
fn each_kind_has_its_own_session() {
    let findings = |kind: &str, session: Value| with(&json!({"kind": kind, "session": session}));
    let writes = json!({"audio": {"input": {"transcription": {"model": "gpt-live-transcribe"}}}});
    assert_eq!(findings("transcription", writes), Findings::default());
    assert_warnings(
        &findings("transcription", json!({"audio": {"input": {"transcription": {"model": "gpt-realtime-2.1"}}}})),
        &[
            "\"/audio/input/transcription/model\" is \"gpt-realtime-2.1\", which is a model for conversations, not for transcription.",
        ],
    );
    assert_warnings(
        &findings("transcription", json!({"model": "gpt-live-transcribe"})),
        &[
            "OpenAI's schema has no \"/model\". OpenAI accepts it at \"/audio/input/transcription/model\".",
            "the session names no model at \"/audio/input/transcription/model\", so OpenAI chooses one.",
        ],
    );
    assert_eq!(findings("translation", json!({"model": "gpt-realtime-translate"})), Findings::default());
    assert_mistakes(&findings("translation", json!({})), &["\"/model\" is missing, and OpenAI requires it."]);
    assert_mistakes(
        &findings("translation", json!({"model": "gpt-realtime-translate", "voice": "ash"})),
        &["\"/voice\" was a field of OpenAI's beta API and is gone. Remove it."],
    );
}

#[test]
fn a_prompt_object_is_refused_once_openai_has_ended_it() {
    let file =
        json!({"default": {"kind": "realtime", "session": {"model": "gpt-realtime-2.1", "prompt": {"id": "pmpt_1"}}}});
    let on = |day: Day| check(file.to_string().as_bytes(), day);
    // 2026-11-29 and 2026-11-30
    let sentence =
        |ends| format!("OpenAI {ends} \"/prompt\" on 2026-11-30. Write the prompt's text into \"instructions\".");
    assert_warnings(&on(TODAY.plus(3)), &[&sentence("will remove")]);
    assert_mistakes(&on(TODAY.plus(4)), &[&sentence("removed")]);
}

#[test]
fn a_model_is_refused_when_it_is_gone() {
    let on = |model: &str, day: Day| {
        let file = json!({"default": {"kind": "realtime", "session": {"model": model}}});
        check(file.to_string().as_bytes(), day)
    };
    let ends =
        |when: &str| format!("\"/model\" is \"gpt-realtime\", which {when} on 2027-01-20. Use \"gpt-realtime-2.1\".");
    // 2027-01-19 and 2027-01-20
    assert_warnings(&on("gpt-realtime", TODAY.plus(54)), &[&ends("will be shut down")]);
    assert_mistakes(&on("gpt-realtime", TODAY.plus(55)), &[&ends("was shut down")]);
    for (model, sentence) in [
        ("gpt-realtime-mini-2025-10-06", "which was shut down on 2026-07-23. Use \"gpt-realtime-2.1-mini\"."),
        ("gpt-4o-realtime-preview-2024-12-17", "which was shut down on 2026-05-07. Use \"gpt-realtime-2.1\"."),
        ("gpt-live-2", "a model of GPT-Live, which has no ephemeral tokens. Use \"gpt-realtime-2.1\"."),
        ("gpt-live-1", "a model of GPT-Live, which has no ephemeral tokens. Use \"gpt-realtime-2.1\"."),
    ] {
        assert_mistakes(&on(model, TODAY), &[&format!("\"/model\" is \"{model}\", {sentence}")]);
    }
}

#[test]
fn a_name_that_the_lists_do_not_have_is_a_warning() {
    let voices = "alloy, ash, ballad, coral, echo, sage, shimmer, verse, marin, cedar";
    for (session, sentence) in [
        (
            json!({"model": "gpt-realtime-2.1", "audio": {"output": {"voice": "nova"}}}),
            format!("\"/audio/output/voice\" is \"nova\", which is not a known voice ({voices})."),
        ),
        (
            json!({"model": "gpt-realtime-2.1", "audio": {"output": {"voice": "cedra"}}}),
            format!(
                "\"/audio/output/voice\" is \"cedra\", which is not a known voice ({voices}). Did you mean \"cedar\"?"
            ),
        ),
        (json!({"model": "sol-9"}), "\"/model\" is \"sol-9\", which is not a known model.".to_owned()),
        (
            json!({"model": "gpt-realtme-2.1"}),
            "\"/model\" is \"gpt-realtme-2.1\", which is not a known model. Did you mean \"gpt-realtime-2.1\"?"
                .to_owned(),
        ),
    ] {
        assert_warnings(&with_session(&session), &[&sentence]);
    }
}

#[test]
fn a_field_leads_to_a_place_in_the_session() {
    let allow = json!({"one_of": ["ash"]});
    for (at, sentence) in [
        (
            json!("audio/output/voice"),
            "writes to \"audio/output/voice\", which does not begin with a slash. Write \"/audio/output/voice\".",
        ),
        (json!("voice"), "writes to \"voice\", which does not begin with a slash."),
        (
            json!("/audio/ouput/voice"),
            "writes to \"/audio/ouput/voice\", which leads nowhere: \"/audio\" has no \"ouput\", only \"input\" and \"output\". Did you mean \"output\"?",
        ),
        (
            json!("/audio/output/format"),
            "writes to \"/audio/output/format\", which leads nowhere: \"/audio/output\" has no \"format\", only \"speed\" and \"voice\". \
             Add it with the value for callers that do not set the field.",
        ),
        (
            json!("/audio/output/voice/id"),
            "writes to \"/audio/output/voice/id\", which leads nowhere: \"/audio/output/voice\" is a value, so it has no places below it.",
        ),
        (
            json!("/instructions/2"),
            "writes to \"/instructions/2\", which leads nowhere: \"/instructions\" is a list whose entries are 0 to 1, not 2.",
        ),
        (
            json!(""),
            "writes to \"\", which is the whole session. Name one place in it, such as \"/audio/output/voice\".",
        ),
    ] {
        assert_mistakes(&with_field(&at, &allow), &[&format!("the field \"field\" {sentence}")]);
    }
    assert_mistakes(
        &with_field(&json!(5), &allow),
        &["\"at\" of the field \"field\" is 5, but must be a path such as \"/audio/output/voice\"."],
    );
}

#[test]
fn a_rule_can_be_followed() {
    let speed = json!("/audio/output/speed");
    for (allow, sentence) in [
        (
            json!({"one_of": []}),
            "\"one_of\" of the field \"field\" is empty, so the field can never be set. Add a value.",
        ),
        (
            json!({"one_of": {}}),
            "\"one_of\" of the field \"field\" is empty, so the field can never be set. Add a value.",
        ),
        (
            json!({"one_of": [1]}),
            "\"one_of\" of the field \"field\" has 1 in it, but a list holds words. For numbers, use the rule \"number\" or \
             \"integer\", or a table of words and values.",
        ),
        (
            json!({"one_of": "ash"}),
            "\"one_of\" of the field \"field\" is \"ash\", but must be a list of words, or a table of words and values.",
        ),
        (
            json!({"number": {"from": 1.2, "to": 0.8}}),
            "\"from\" of the field \"field\" is 1.2 and \"to\" is 0.8, so the field can never be set. Swap them.",
        ),
        (
            json!({"number": {"from": "0.8", "to": 1.2}}),
            "\"from\" of the field \"field\" is \"0.8\", but must be a number. Write the number without quotes.",
        ),
        (json!({"number": {"from": 0.8}}), "\"number\" of the field \"field\" has no \"to\"."),
        (
            json!({"number": [0.8, 1.2]}),
            "\"number\" of the field \"field\" is a list, but must be an object with \"from\" and \"to\".",
        ),
        (
            json!({"integer": {"from": 0.5, "to": 1}}),
            "\"from\" of the field \"field\" is 0.5, but must be a whole number.",
        ),
        (
            json!({"any": true}),
            "the field \"field\" has the unknown rule \"any\". Known rules: \"one_of\", \"number\", \"integer\" and \"text\".",
        ),
        (
            json!({"numbr": {"from": 1, "to": 1}}),
            "the field \"field\" has the unknown rule \"numbr\". Known rules: \"one_of\", \"number\", \"integer\" and \"text\". Did you mean \"number\"?",
        ),
        (
            json!({}),
            "\"allow\" of the field \"field\" is empty. Give it one rule: \"one_of\", \"number\", \"integer\" or \"text\".",
        ),
        (
            json!(["ash"]),
            "\"allow\" of the field \"field\" is a list, but must be an object with one rule: \"one_of\", \"number\", \"integer\" or \"text\".",
        ),
        (
            json!({"number": {"from": 1, "to": 1}, "one_of": ["a"]}),
            "the field \"field\" has the rules \"number\" and \"one_of\". Keep one of them.",
        ),
    ] {
        assert_mistakes(&with_field(&speed, &allow), &[sentence]);
    }
    for (allow, sentence) in [
        (
            json!({"text": {"max_characters": 0}}),
            "\"max_characters\" of the field \"field\" is 0, but must be a whole number of at least 1.",
        ),
        (
            json!({"text": {"max_characters": "40"}}),
            "\"max_characters\" of the field \"field\" is \"40\", but must be a whole number of at least 1. Write the number without quotes.",
        ),
        (
            json!({"text": {"max_characters": 40, "min_characters": 1}}),
            "\"text\" of the field \"field\" has the unknown field \"min_characters\". Known fields: \"max_characters\".",
        ),
        (
            json!({"integer": {"from": 1, "to": 1}}),
            "the field \"field\" allows 1 for \"/instructions/1\", but instructions must be text.",
        ),
        (json!({"one_of": ["a", "a"]}), "\"one_of\" of the field \"field\" has \"a\" twice. Remove one."),
    ] {
        assert_mistakes(&with_field(&json!("/instructions/1"), &allow), &[sentence]);
    }
}

#[test]
fn every_value_that_a_caller_may_set_is_checked() {
    for (at, allow, sentences) in [
        (
            "/audio/output/speed",
            json!({"number": {"from": 0.1, "to": 9}}),
            &[
                "the field \"field\" can set \"/audio/output/speed\" to 0.1, but OpenAI accepts 0.25 to 1.5.",
                "the field \"field\" can set \"/audio/output/speed\" to 9, but OpenAI accepts 0.25 to 1.5.",
                "the field \"field\" can set \"/audio/output/speed\" to 2.933, but OpenAI accepts 0.25 to 1.5.",
            ][..],
        ),
        (
            "/audio/output/speed",
            json!({"one_of": {"normal": 1, "fast": 2}}),
            &["the field \"field\" can set \"/audio/output/speed\" to 2, but OpenAI accepts 0.25 to 1.5."],
        ),
        (
            "/audio/output/speed",
            json!({"one_of": ["1.0"]}),
            &[
                "the field \"field\" can set \"/audio/output/speed\" to \"1.0\", but OpenAI accepts a number. Write the number without quotes.",
            ],
        ),
        (
            "/max_output_tokens",
            json!({"number": {"from": 1, "to": 4}}),
            &[
                "the field \"field\" can set \"/max_output_tokens\" to 1.955, but OpenAI accepts text or a whole number.",
            ],
        ),
        (
            "/audio/output/voice",
            json!({"one_of": ["ash", "Coral"]}),
            &[
                "the field \"field\" can set \"/audio/output/voice\" to \"Coral\", but OpenAI writes that voice \"coral\".",
            ],
        ),
        (
            "/audio/output/voice",
            json!({"text": {"max_characters": 20}}),
            &[
                "the field \"field\" lets callers write any text to \"/audio/output/voice\", but OpenAI accepts \"alloy\", \"ash\", \"ballad\", \"coral\", \"echo\", \"sage\", \"shimmer\", \"verse\", \"marin\" or \"cedar\".",
            ],
        ),
        (
            "/model",
            json!({"one_of": {"old": "gpt-realtime-mini-2025-10-06", "new": "gpt-realtime-2.1"}}),
            &[
                "the field \"field\" can set \"/model\" to \"gpt-realtime-mini-2025-10-06\", which was shut down on 2026-07-23. Use \"gpt-realtime-2.1-mini\".",
            ],
        ),
        (
            "/audio/output",
            json!({"one_of": {"loud": {"speed": 9}}}),
            &["the field \"field\" can set \"/audio/output/speed\" to 9, but OpenAI accepts 0.25 to 1.5."],
        ),
    ] {
        assert_mistakes(&with_field(&at.into(), &allow), sentences);
    }
    assert_warnings(
        &with_field(&"/audio/input/transcription/model".into(), &json!({"one_of": ["whisper-1"]})),
        &[
            "the field \"field\" can set \"/audio/input/transcription/model\" to \"whisper-1\", which will be shut down on 2027-02-26. Use \"gpt-live-transcribe\".",
        ],
    );
    assert_warnings(
        &with_field(&"/model".into(), &json!({"text": {"max_characters": 40}})),
        &["the field \"field\" lets callers write any text to \"/model\". Use \"one_of\" for models."],
    );
}

#[test]
fn two_fields_have_two_places_and_none_is_named_profile() {
    let allow = json!({"one_of": ["ash"]});
    let table = json!({"one_of": {"a": {"voice": "ash"}}});
    let fields = |fields: Value| with(&json!({"kind": "realtime", "session": session(), "caller_may_set": fields}));
    let field = |at: &str| json!({"at": at, "allow": allow});
    assert_mistakes(
        &fields(json!({"a": field("/audio/output/voice"), "b": field("/audio/output/voice")})),
        &["the fields \"a\" and \"b\" both write to \"/audio/output/voice\". Give each its own place."],
    );
    assert_mistakes(
        &fields(json!({"a": field("/audio/output/voice"), "b": {"at": "/audio/output", "allow": table}})),
        &["the fields \"a\" and \"b\" both write to \"/audio/output\". Give each its own place."],
    );
    assert_mistakes(
        &fields(json!({"profile": field("/audio/output/voice")})),
        &["a field cannot be named \"profile\": with that, callers choose their profile. Rename it."],
    );
    assert_mistakes(
        &fields(json!({"voice": {"at": "/audio/output/voice"}})),
        &["the field \"voice\" has no \"allow\", its rule: \"one_of\", \"number\", \"integer\" or \"text\"."],
    );
    assert_mistakes(
        &fields(json!({"voice": {"at": "/audio/output/voice", "alow": allow}})),
        &[
            "the field \"voice\" has the unknown field \"alow\". Known fields: \"at\" and \"allow\". Did you mean \"allow\"?",
            "the field \"voice\" has no \"allow\", its rule: \"one_of\", \"number\", \"integer\" or \"text\".",
        ],
    );
}

#[test]
fn a_truncated_or_changed_file_never_gets_a_raw_parser_message() {
    let internals = ["variant", "untagged", "serde", "expected value", "EOF", "invalid type", "at line"];
    for end in (0..SHIPPED.len()).step_by(7).filter(|end| SHIPPED.is_char_boundary(*end)) {
        let (start, rest) = SHIPPED.split_at(end);
        for file in
            [start.to_owned(), format!("{start},{rest}"), format!("{start}\"{rest}"), format!("{start}}}{rest}")]
        {
            for sentence in of(file.as_bytes()).mistakes {
                assert!(internals.iter().all(|word| !sentence.contains(word)), "{sentence}");
                assert!(sentence.ends_with(['.', '?']) || sentence.ends_with("'."), "{sentence}");
            }
        }
    }
}

#[test]
fn calls_are_locked_or_open_and_have_a_length() {
    let with_call = |call: Value| with(&json!({"kind": "realtime", "call": call, "session": session()}));
    for mode in ["locked", "open"] {
        for seconds in [10, 3600] {
            assert_eq!(with_call(json!({"mode": mode, "max_seconds": seconds})), Findings::default());
        }
    }
    for (call, sentence) in [
        (json!("locked"), "\"call\" must be an object with \"mode\" and \"max_seconds\", but it is \"locked\"."),
        (
            json!({"mode": "lock", "max_seconds": 60}),
            "\"mode\" of \"call\" is \"lock\", but must be \"locked\" or \"open\".",
        ),
        (json!({"max_seconds": 60}), "\"call\" has no \"mode\"."),
        (json!({"mode": "open"}), "\"call\" has no \"max_seconds\"."),
        (json!({"mode": "open", "max_seconds": 9}), "\"max_seconds\" of \"call\" is 9, but must be a whole number"),
        (json!({"mode": "open", "max_seconds": "60"}), "Write the number without quotes."),
        (json!({"mode": "open", "max_seconds": 60, "minutes": 1}), "\"call\" has the unknown field \"minutes\"."),
    ] {
        let Findings { mistakes, .. } = with_call(call.clone());
        assert!(mistakes.len() == 1 && mistakes[0].contains(sentence), "{call}: {mistakes:#?}");
    }
}

#[test]
fn only_a_conversation_can_have_calls() {
    let call = json!({"mode": "open", "max_seconds": 60});
    let session = json!({"audio": {"input": {"transcription": {"model": "gpt-live-transcribe"}}}});
    let Findings { mistakes, .. } = with(&json!({"kind": "transcription", "call": call, "session": session}));
    assert!(mistakes.len() == 1 && mistakes[0].contains("only a profile with the kind \"realtime\""), "{mistakes:#?}");
}

#[test]
fn a_locked_call_needs_no_events_of_the_browser() {
    let call = json!({"mode": "locked", "max_seconds": 60});
    let of = |session: Value| with(&json!({"kind": "realtime", "call": call, "session": session})).mistakes;
    let with_detection =
        |detection: Value| json!({"model": "gpt-realtime-2.1", "audio": {"input": {"turn_detection": detection}}});
    let tool = json!({"type": "function", "name": "end", "description": "Ends.", "parameters": {"type": "object"}});
    for (session, sentence) in [
        (json!({"model": "gpt-realtime-2.1", "tools": [tool]}), "nobody can answer its function tools"),
        (with_detection(Value::Null), "the model answers only if"),
        (with_detection(json!({"type": "server_vad", "create_response": false})), "the model answers only if"),
    ] {
        let mistakes = of(session.clone());
        assert!(mistakes.len() == 1 && mistakes[0].contains(sentence), "{session}: {mistakes:#?}");
    }
    let server = json!({"type": "mcp", "server_label": "s", "server_url": "https://mcp.example.com"});
    assert_eq!(of(json!({"model": "gpt-realtime-2.1", "tools": [server]})), Vec::<String>::new());
    assert_eq!(of(with_detection(json!({"type": "semantic_vad"}))), Vec::<String>::new());
}

#[test]
fn the_fields_of_a_profile_with_calls_are_not_named_like_parts_of_the_request() {
    for name in ["sdp", "dcid"] {
        let field = json!({name: {"at": "/audio/output/voice", "allow": {"one_of": ["ash"]}}});
        let profile = |call: Value| {
            let mut profile = json!({"kind": "realtime", "session": session(), "caller_may_set": field});
            profile["call"] = call;
            profile
        };
        let Findings { mistakes, .. } = with(&profile(json!({"mode": "open", "max_seconds": 60})));
        assert!(mistakes.len() == 1 && mistakes[0].contains(&format!("cannot be named \"{name}\"")), "{mistakes:#?}");
    }
}
