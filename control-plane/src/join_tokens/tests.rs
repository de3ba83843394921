use std::time::Duration;

use super::*;
use crate::{
    regions,
    testing::{TestApp, on_both_databases},
};

async fn checked(app: &TestApp, given: &str) -> Result<Grant, Refusal> {
    check(&mut app.app.db.read().await.unwrap(), "join", given).await.unwrap()
}

fn region(name: &str) -> Region {
    name.parse().unwrap()
}

on_both_databases! {
    async fn a_token_is_good_for_its_region_until_it_is_revoked(app: TestApp) {
        let db = &app.app.db;
        let (row, token) = operator::create(db, &region("eu"), "rack 1", None).await.unwrap();
        assert!(token.starts_with(&format!("vj_{}.", row.id)));
        let grant = checked(&app, &token).await.unwrap();
        assert_eq!(grant, Grant::Region(row.id, region("eu")));
        assert!(grant.covers(&region("eu")) && !grant.covers(&region("us")));
        let secret = token.split_once('.').unwrap().1;
        assert_eq!(app.count("SELECT COUNT(*) FROM join_tokens").await, 1);
        assert!(!row.secret_hash.windows(8).any(|part| secret.as_bytes().starts_with(part)));

        assert!(operator::revoke(db, row.id).await.unwrap().revoked_us.is_some());
        assert_eq!(checked(&app, &token).await, Err(Refusal::Revoked));
        let again = operator::revoke(db, row.id).await.unwrap();
        assert_eq!(operator::list(db).await.unwrap().0[0].revoked_us, again.revoked_us);
        let unknown = operator::revoke(db, JoinTokenId::generate()).await.unwrap_err();
        assert!(unknown.to_string().starts_with("there is no join token "), "{unknown}");
    }

    async fn a_token_may_expire(app: TestApp) {
        let hour = Some(Duration::from_secs(3_600));
        let (row, token) = operator::create(&app.app.db, &region("eu"), "", hour).await.unwrap();
        assert_eq!(row.expires_us, Some(row.created_us + 3_600_000_000));
        assert!(checked(&app, &token).await.is_ok());
        app.sql("UPDATE join_tokens SET expires_us = created_us", &[]).await;
        assert_eq!(checked(&app, &token).await, Err(Refusal::Expired));
    }

    async fn only_who_has_the_secret_hears_more_than_that_it_is_wrong(app: TestApp) {
        let db = &app.app.db;
        let (row, _) = operator::create(db, &region("eu"), "", None).await.unwrap();
        operator::revoke(db, row.id).await.unwrap();
        for id in [row.id, JoinTokenId::generate()] {
            let forged = credential::mint(PREFIX, id).unwrap().text;
            assert_eq!(checked(&app, &forged).await, Err(Refusal::Wrong));
        }
        for bad in ["", "joi", "join ", "vj_", &format!("vs_{}.{}", row.id, "a".repeat(32))] {
            assert_eq!(checked(&app, bad).await, Err(Refusal::Wrong), "{bad}");
        }
        let own = checked(&app, "join").await.unwrap();
        assert_eq!((own.token(), own.covers(&region("anywhere"))), (None, true));
    }

    async fn the_operator_sees_regions_that_only_have_a_token(app: TestApp) {
        let db = &app.app.db;
        app.agent("us", 3).await;
        operator::create(db, &region("eu"), "", None).await.unwrap();
        let (revoked, _) = operator::create(db, &region("us"), "", None).await.unwrap();
        operator::revoke(db, revoked.id).await.unwrap();
        let listed: Vec<_> = regions::for_operator(db).await.unwrap().into_iter()
            .map(|(row, tokens)| (row.region.to_string(), row.agents, row.capacity, tokens))
            .collect();
        assert_eq!(listed, [("eu".to_owned(), 0, 0, 1), ("us".to_owned(), 1, 3, 0)]);
    }
}
