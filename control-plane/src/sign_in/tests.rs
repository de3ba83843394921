use http::Method;
use serde_json::{Value, json};

use crate::{
    people::Role,
    testing::{Answer, Call, OWNER, TestApp, on_both_databases, until},
};

fn ask(app: &TestApp, email: &str) -> Call {
    let ask = app.open(Method::POST, "/v1/dashboard/auth/magic-links");
    ask.json(&json!({"email": email}))
}

async fn me(app: &TestApp, token: &str) -> Answer {
    app.get("/v1/dashboard/me").key(token).send().await
}

async fn refresh(app: &TestApp, token: &str) -> Answer {
    let refresh = app.open(Method::POST, "/v1/dashboard/auth/refresh");
    refresh.json(&json!({"refresh_token": token})).send().await
}

fn tokens(answer: &Value) -> (String, String) {
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    (text("access_token"), text("refresh_token"))
}

/// The cookies that an answer sets, as a browser would send them back.
fn cookies(answer: &Answer) -> String {
    let all = answer.headers.get_all("set-cookie").iter();
    let pairs: Vec<_> = all.map(|set| set.to_str().unwrap().split(';').next().unwrap()).collect();
    pairs[..2].join("; ")
}

/// Moves all that the tokens depend on into the past.
async fn an_age_later(app: &TestApp, seconds: &str) {
    for sql in [
        "UPDATE sign_ins SET access_expires_us = access_expires_us - CAST($1 AS BIGINT) * 1000000, \
         refresh_expires_us = refresh_expires_us - CAST($1 AS BIGINT) * 1000000, \
         exchanged_us = exchanged_us - CAST($1 AS BIGINT) * 1000000",
        "UPDATE magic_links SET expires_us = expires_us - CAST($1 AS BIGINT) * 1000000, \
         created_us = created_us - CAST($1 AS BIGINT) * 1000000",
    ] {
        app.sql(sql, &[seconds]).await;
    }
}

on_both_databases! {
    async fn a_link_signs_in_once(app: TestApp) {
        let token = app.link_for(OWNER).await;
        let answer = app.exchange(&token).await;
        let signed_in = answer.expect(200);
        assert_eq!(signed_in["user"]["email"], OWNER);
        assert_eq!(signed_in["workspace"], json!(null));
        let (access, _) = tokens(&signed_in);
        let known = me(&app, &access).await.expect(200);
        assert_eq!(known["workspaces"], json!([
            {"slug": "default", "name": "Default", "role": "owner", "status": "ACTIVE"},
        ]));
        app.exchange(&token).await.problem(401, "unauthorized");
    }

    async fn of_many_who_use_a_link_at_once_one_gets_in(app: TestApp) {
        let token = app.link_for(OWNER).await;
        let tries: Vec<_> = (0..10).map(|_| {
            let (app, token) = (app.clone(), token.clone());
            tokio::spawn(async move { app.exchange(&token).await.status })
        }).collect();
        let mut statuses = Vec::new();
        for status in tries {
            statuses.push(status.await.unwrap());
        }
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert_eq!(app.count("SELECT COUNT(*) FROM sign_ins").await, 1);
    }

    async fn nobody_hears_whether_an_address_is_known(app: TestApp) {
        let known = ask(&app, OWNER).send().await;
        let unknown = ask(&app, "nobody@ventus.test").send().await;
        assert_eq!((known.status, &*known.text), (202, "{}"));
        assert_eq!((unknown.status, &*unknown.text), (202, "{}"));
        until(async || !app.app.mailer.sent().is_empty()).await;
        app.app.tasks.close();
        app.app.tasks.wait().await;
        let sent: Vec<_> = app.app.mailer.sent().iter().map(|mail| mail.to.to_string()).collect();
        assert_eq!(sent, [OWNER]);
        assert_eq!(app.count("SELECT COUNT(*) FROM magic_links").await, 1);
        assert_eq!(app.count("SELECT COUNT(*) FROM users").await, 1);
        for (body, status) in [
            (json!({}), 422),
            (json!({"email": "nobody"}), 422),
            (json!({"email": 7}), 422),
            (json!({"email": OWNER, "x": 1}), 400),
        ] {
            let answer = ask(&app, "").json(&body).send().await;
            answer.problem(status, "validation-error");
        }
    }

    async fn an_address_is_known_in_any_case_and_mailed_as_it_was_given(app: TestApp) {
        let token = app.mailed(OWNER, ask(&app, "OWNER@Ventus.Test"), 202).await;
        assert_eq!(app.exchange(&token).await.expect(200)["user"]["email"], OWNER);
    }

    async fn five_links_an_hour_are_enough(app: TestApp) {
        for _ in 0..5 {
            app.link_for(OWNER).await;
        }
        for _ in 0..3 {
            ask(&app, OWNER).send().await.expect(202);
        }
        app.app.tasks.close();
        app.app.tasks.wait().await;
        app.app.tasks.reopen();
        assert_eq!(app.app.mailer.sent().len(), 5);
        an_age_later(&app, "3600").await;
        app.link_for(OWNER).await;
        assert_eq!(app.app.mailer.sent().len(), 6);
        crate::retention::sweep(&app.app).await.unwrap();
        assert_eq!(app.count("SELECT COUNT(*) FROM magic_links").await, 1);
    }

    async fn a_link_lasts_a_quarter_of_an_hour(app: TestApp) {
        let (late, in_time) = (app.link_for(OWNER).await, app.link_for(OWNER).await);
        an_age_later(&app, "880").await;
        app.exchange(&in_time).await.expect(200);
        an_age_later(&app, "21").await;
        app.exchange(&late).await.problem(401, "unauthorized");
    }

    async fn what_is_no_token_of_ours_is_refused(app: TestApp) {
        let (access, refresh_token) = app.sign_in(OWNER).await;
        let link = app.link_for(OWNER).await;
        let other = |token: &str| {
            let (head, secret) = token.rsplit_once('.').unwrap();
            format!("{head}.{}", secret.chars().rev().collect::<String>())
        };
        let unknown = |token: &str| format!("{}{}{}", &token[..3], "0".repeat(26), &token[29..]);
        for bad in [other(&link), unknown(&link), access.clone(), "vm_x".to_owned(), app.key.to_string()] {
            app.exchange(&bad).await.problem(401, "unauthorized");
        }
        for bad in [other(&access), unknown(&access), refresh_token.clone(), link.clone(), app.key.to_string()] {
            let answer = me(&app, &bad).await;
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
            answer.problem(401, "unauthorized");
        }
        for bad in [other(&refresh_token), unknown(&refresh_token), access.clone(), link.clone()] {
            refresh(&app, &bad).await.problem(401, "unauthorized");
        }
        // A person's token is no key.
        app.get("/v1/sessions").key(&access).send().await.problem(401, "unauthorized");
        // None of them did any harm.
        me(&app, &access).await.expect(200);
        refresh(&app, &refresh_token).await.expect(200);
        app.exchange(&link).await.expect(200);
    }

    async fn an_access_token_lasts_an_hour_and_a_refresh_token_thirty_days(app: TestApp) {
        let (access, refresh_token) = app.sign_in(OWNER).await;
        an_age_later(&app, "3580").await;
        me(&app, &access).await.expect(200);
        an_age_later(&app, "21").await;
        me(&app, &access).await.problem(401, "unauthorized");
        let (access, second) = tokens(&refresh(&app, &refresh_token).await.expect(200));
        me(&app, &access).await.expect(200);
        an_age_later(&app, "2591900").await;
        let (_, third) = tokens(&refresh(&app, &second).await.expect(200));
        an_age_later(&app, "2592001").await;
        refresh(&app, &third).await.problem(401, "unauthorized");
        // A sweep passes over rows in use, and the refusal may have its own a moment longer.
        until(async || {
            crate::retention::sweep(&app.app).await.unwrap();
            app.count("SELECT COUNT(*) FROM sign_ins").await == 0
        })
        .await;
    }

    async fn a_refresh_token_that_is_used_twice_ends_its_whole_family(app: TestApp) {
        let (first_access, first) = app.sign_in(OWNER).await;
        let (other_access, _) = app.sign_in(OWNER).await;
        let (second_access, second) = tokens(&refresh(&app, &first).await.expect(200));
        an_age_later(&app, "11").await;
        refresh(&app, &first).await.problem(401, "unauthorized");
        for revoked in [&first_access, &second_access] {
            me(&app, revoked).await.problem(401, "unauthorized");
        }
        refresh(&app, &second).await.problem(401, "unauthorized");
        // Another sign-in of the same person is another family.
        me(&app, &other_access).await.expect(200);
        let audit = app.get("/v1/dashboard/ws/default/audit?action=user.tokens_revoked");
        let audit = audit.key(&other_access).send().await.expect(200);
        assert_eq!(audit["items"].as_array().unwrap().len(), 1);
    }

    async fn a_refresh_whose_answer_was_lost_may_be_repeated(app: TestApp) {
        let (_, first) = app.sign_in(OWNER).await;
        let answers: Vec<_> = (0..8).map(|_| {
            let (app, first) = (app.clone(), first.clone());
            tokio::spawn(async move { refresh(&app, &first).await.expect(200) })
        }).collect();
        let mut all = Vec::new();
        for answer in answers {
            all.push(answer.await.unwrap());
        }
        assert!(all.iter().all(|answer| *answer == all[0]), "{}", all.len());
        assert_eq!(app.count("SELECT COUNT(*) FROM sign_ins").await, 2);
        let (access, second) = tokens(&all[0]);
        me(&app, &access).await.expect(200);
        refresh(&app, &second).await.expect(200);
    }

    async fn signing_out_ends_the_sign_in(app: TestApp) {
        let person = app.person("ada", Role::Member).await;
        let (other, _) = app.sign_in(&person.email).await;
        let answer = person.call(Method::DELETE, "/auth/tokens").send().await;
        assert!(cookies(&answer).contains("ventus_access="));
        answer.expect(204);
        me(&app, &person.token).await.problem(401, "unauthorized");
        refresh(&app, &person.refresh).await.problem(401, "unauthorized");
        me(&app, &other).await.expect(200);
    }

    async fn a_cookie_is_enough_for_our_own_pages_only(app: TestApp) {
        let token = app.link_for(OWNER).await;
        let answer = app.exchange(&token).await;
        let cookie = cookies(&answer);
        let (access, _) = tokens(&answer.expect(200));
        let by_cookie = |method: Method, path: &str| {
            app.open(method, &format!("/v1/dashboard{path}")).header("cookie", &cookie)
        };
        let rename = || by_cookie(Method::PATCH, "/ws/default").json(&json!({"name": "N"}));
        by_cookie(Method::GET, "/me").send().await.expect(200);
        for foreign in ["http://evil.test", "null", "https://ventus.test", ""] {
            let answer = rename().header("origin", foreign).send().await;
            answer.problem(403, "forbidden");
        }
        rename().send().await.problem(403, "forbidden");
        rename().header("sec-fetch-site", "same-site").send().await.problem(403, "forbidden");
        rename().header("origin", "http://ventus.test").send().await.expect(200);
        rename().header("sec-fetch-site", "same-origin").send().await.expect(200);
        // A bearer token is not sent by itself, so it needs none of this.
        let bearer = app.call(Method::PATCH, "/v1/dashboard/ws/default").key(&access);
        bearer.json(&json!({"name": "N"})).header("origin", "http://evil.test").send().await.expect(200);
        // The header counts, also when it is wrong.
        let both = by_cookie(Method::GET, "/me").header("authorization", "Bearer vd_x");
        both.send().await.problem(401, "unauthorized");
        let refresh = || by_cookie(Method::POST, "/auth/refresh");
        refresh().send().await.problem(403, "forbidden");
        let answer = refresh().header("origin", "http://ventus.test").send().await;
        assert_ne!(cookies(&answer), cookie);
        answer.expect(200);
        for none in [json!({}), json!({"refresh_token": null}), json!({"refresh_token": "\n"})] {
            let none = app.open(Method::POST, "/v1/dashboard/auth/refresh").json(&none);
            none.send().await.problem(401, "unauthorized");
        }
    }

    async fn the_other_name_of_the_routes_is_the_same(app: TestApp) {
        let (access, _) = app.sign_in(OWNER).await;
        let by_alias = app.get("/api/v1/dashboard/me").key(&access).send().await.expect(200);
        assert_eq!(by_alias, me(&app, &access).await.expect(200));
        let problem = app.get("/api/v1/dashboard/me").key("vd_x").send().await;
        assert_eq!(problem.problem(401, "unauthorized")["instance"], "/api/v1/dashboard/me");
        let unknown = app.get("/api/v1/dashboard/ws/nope/members").key(&access).send().await;
        unknown.problem(404, "not-found");
        app.get("/api/v1/sessions").send().await.problem(404, "not-found");
    }

    async fn the_sign_in_page_needs_nothing_and_tells_nothing(app: TestApp) {
        let page = app.open(Method::GET, "/sign-in").send().await;
        assert_eq!(page.status, 200);
        assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html"));
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
        assert_eq!(page.headers["referrer-policy"], "no-referrer");
        assert_eq!(page.headers["cache-control"], "no-store");
        assert!(!page.text.contains("http://") && !page.text.contains("https://"));
    }

    async fn no_secret_of_a_person_is_in_the_database(app: TestApp) {
        let link = app.link_for(OWNER).await;
        let (access, first) = app.sign_in(OWNER).await;
        let (_, second) = tokens(&refresh(&app, &first).await.expect(200));
        let owner = app.owner().await;
        let invite = owner.ws(Method::POST, "/invitations")
            .json(&json!({"email": "grace@x.test", "role": "member"}));
        let invitation = app.mailed("grace@x.test", invite, 201).await;
        let (_, key) = owner.key(&json!({"label": "x"})).await;
        let dump = app.dump().await;
        assert!(dump.contains("grace@x.test"));
        for secret in [link, access, first, second, invitation, key] {
            let (_, secret) = secret.rsplit_once('.').unwrap();
            let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
            assert!(!dump.contains(secret) && !dump.to_lowercase().contains(&hex), "{secret}");
        }
    }
}
