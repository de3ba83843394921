//! What a problem document costs, held to the figures in `costs/figures/proto.txt`.

use super::{FieldError, Frame, Problem, Slug};

/// Documents that are written in one round.
const MANY: u32 = 8;

#[test]
fn problems_cost_what_they_did() {
    costs::hold("proto", "problem::costs::problems_cost_what_they_did", |meter| {
        let frame = Frame { base_url: "https://ventus.example".into() };
        let fault = |pointer: &str, detail: &str| FieldError {
            pointer: pointer.to_owned(),
            detail: detail.to_owned(),
        };
        let missing = Problem::new(Slug::NotFound, "no such session");
        let faulty = Problem::malformed("two fields are wrong").with_errors(vec![
            fault("/region", "must not be empty"),
            fault("/timeout_seconds", "must be from 60 to 86400"),
        ]);
        for (case, problem) in
            [("a problem document", missing), ("a problem document with two faults", faulty)]
        {
            meter.case(case, MANY, |round| {
                let mut problems = vec![problem.clone(); MANY as usize];
                round.counted(|| {
                    for problem in problems.drain(..) {
                        let path = "/v1/sessions/01KA9ZZZZZ0000000000000001";
                        let answer = problem.render(&frame, path, "01KA9ZZZZZ0000000000000002");
                        assert!(answer.status().is_client_error());
                    }
                });
            });
        }
    });
}
