//! What cursors of lists cost, held to the figures in `costs/figures/control-plane.txt`.

use std::hint::black_box;

use proto::id::{SessionId, WorkspaceId};

use crate::{cursor, secrets::Secrets};

/// Cursors that are written, or read, in one round.
const MANY: u32 = 8;

#[test]
fn cursors_cost_what_they_did() {
    costs::hold("control-plane", "costs::cursors_cost_what_they_did", |meter| {
        let secrets = Secrets::for_tests();
        let workspace: WorkspaceId = "01KA9ZZZZZ0000000000000001".parse().unwrap();
        let last: SessionId = "01KA9ZZZZZ0000000000000002".parse().unwrap();
        let filters = r#"sessions {"status":["RUNNING"],"labels":{"team":"a"}}"#;
        let cursor = cursor::encode(&secrets, workspace, filters, last);
        meter.case("a cursor that is written", MANY, |round| {
            round.counted(|| {
                for _ in 0..MANY {
                    black_box(cursor::encode(&secrets, workspace, filters, black_box(last)));
                }
            });
        });
        meter.case("a cursor that is read", MANY, |round| {
            round.counted(|| {
                for _ in 0..MANY {
                    let read = cursor::decode(&secrets, workspace, filters, black_box(&cursor));
                    assert_eq!(read, Some(last));
                }
            });
        });
    });
}
