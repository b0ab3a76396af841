//! Faults that stop the start with a message.

use crate::function::{API_KEY, Function};

#[tokio::test]
async fn a_malformed_variable_stops_the_start_with_its_name_and_range() {
    for (variable, sentence) in [
        (("TOKEN_TTL_SECONDS", "9"), "a whole number of seconds from 10 to 7200"),
        (("KEY_TTL_SECONDS", "soon"), "a whole number of seconds from 0 to 86400"),
        (("OPENAI_BASE_URL", "http://api.openai.com/v1"), "http: on a loopback host only"),
        (("OPENAI_API_KEY", "sk-hunter2 x"), "has spaces"),
        (("ALLOWED_ORIGINS", "https://app.example.com/"), "did you mean \\\"https://app.example.com\\\"?"),
        (("TOKEN_PREFIX", "ek_*"), "up to 32 letters, digits and _-."),
        (("MODEL", "no model"), "a model's name"),
        (("VOICE", "nova"), "one of alloy, ash"),
        (("QUOTA_PER_DAY", "many"), "a whole number of tokens from 0 to 1000000"),
        (("LOG_LEVEL", "LOUD"), "ERROR, WARN, INFO, DEBUG or TRACE"),
        (("EXTRA_CA_FILE", "/nowhere.pem"), "a PEM file with certificates"),
        (("EXTRA_CA_FILE", "/dev/null"), "no certificate in it"),
    ] {
        let log = Function::fails_to_start(&[("OPENAI_API_KEY", API_KEY), variable]).await;
        assert!(log.contains(variable.0) && log.contains(sentence), "{log}");
        assert!(!log.contains("panicked") && !log.contains("hunter2"), "{log}");
    }
}

#[tokio::test]
async fn outside_of_lambda_the_message_names_make_demo() {
    let log = Function::fails_to_start(&[("AWS_LAMBDA_RUNTIME_API", "")]).await;
    assert!(log.contains("make demo"), "{log}");
}
