//! Values that may hold a password: what is wrong with one is told without repeating it, as
//! clap's own parsers would.

use std::ffi::OsStr;

use clap::{Arg, Command, Error, builder::TypedValueParser, error::ErrorKind};

/// Takes a text as it is, once this function finds no fault with it.
#[derive(Clone, Copy)]
pub struct Unrepeated(pub fn(&str) -> Result<(), &'static str>);

impl TypedValueParser for Unrepeated {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        text: &OsStr,
    ) -> Result<String, Error> {
        let checked =
            text.to_str().ok_or("not UTF-8").and_then(|text| (self.0)(text).map(|()| text));
        checked.map(str::to_owned).map_err(|fault| {
            let name = arg.map(ToString::to_string).unwrap_or_default();
            let message = format!("invalid value for '{name}': {fault}\n");
            Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn a_fault_is_told_without_the_value() {
        let fault = |text: &str| if text == "good" { Ok(()) } else { Err("not good") };
        let parser = Unrepeated(fault);
        let command = Command::new("x").arg(Arg::new("url").long("url").value_parser(parser));
        let good = command.clone().try_get_matches_from(["x", "--url", "good"]).unwrap();
        assert_eq!(good.get_one::<String>("url").unwrap(), "good");
        let error = command.try_get_matches_from(["x", "--url", "hunter2"]).unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (ErrorKind::ValueValidation, 2));
        let told = error.to_string();
        assert!(told.contains("'--url <url>': not good") && !told.contains("hunter2"), "{told}");
    }
}
