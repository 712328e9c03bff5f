package state_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"gocloud.dev/blob/fileblob"
)

func TestLeaseIsRenewedUnderTheSameToken(t *testing.T) {
	each(t, func(s *service) {
		u := s.start(s.stack("web", "dev"), "update")
		for range 5 {
			s.wait(6 * time.Minute)
			expires := s.time().Add(10 * time.Minute)
			a := u.send("POST", "renew_lease", `{"token":"","duration":300}`).want(200).is("token", u.token)
			if got := a.get("tokenExpiration"); got != jsonInt(expires.Unix()) {
				t.Errorf("expires at %s, want %d", got, expires.Unix())
			}
			u.journal().want(204)
		}
		for _, duration := range []string{"-1", "301", `"x"`} {
			u.send("POST", "renew_lease", `{"token":"","duration":`+duration+`}`).want(400)
		}
		// Older clients authenticate as the user and send the token in the body.
		s.do("POST", u.path+"/renew_lease", `{"token":"`+u.token+`","duration":300}`).want(200).is("token", u.token)
		s.do("POST", u.path+"/renew_lease", `{"token":"wrong","duration":300}`).want(403)
		user := func(r *http.Request) { r.Header.Set("Authorization", "token "+u.token) }
		s.do("POST", u.path+"/complete", `{"status":"succeeded"}`, user).want(403)
	})
}

func TestExpiredLeaseEndsTheUpdate(t *testing.T) {
	finders := map[string]func(s *service, stack string){
		"reading the stack": func(s *service, stack string) {
			s.do("GET", stack, nil).want(200).is("currentOperation", "").is("version", "2")
		},
		"starting another": func(s *service, stack string) { s.start(stack, "update").complete("failed").want(204) },
		"exporting":        func(s *service, stack string) { s.do("GET", stack+"/export", nil).want(200) },
		"its history":      func(s *service, stack string) { s.do("GET", stack+"/updates", nil).want(200) },
		"a restart":        func(s *service, stack string) { s.open() },
	}
	each(t, func(s *service) {
		for finder, find := range finders {
			stack := s.stack("web", "s"+strings.ReplaceAll(finder, " ", "-"))
			name := stack[strings.LastIndex(stack, "/")+1:]
			s.up(stack, "old")
			u := s.start(stack, "update")
			u.journal(provider(1, "web", name), begin(2, 1, name, "a"), success(3, 1, name, "a"), begin(4, 2, name, "b")).want(204)
			s.wait(10*time.Minute - time.Second)
			other := s.create(stack, "update", false)
			s.do("POST", stack+"/update/"+other, `{}`).want(409)
			s.wait(time.Second)
			u.journal(success(5, 2, name, "b")).want(403).says("expired at")
			u.send("PATCH", "checkpoint", `{"version":3,"deployment":{}}`).want(403)
			u.send("POST", "events", `{"sequence":0}`).want(403)
			u.send("POST", "renew_lease", `{"token":"","duration":300}`).want(403)
			find(s, stack)
			u.complete("succeeded").want(409)
			s.resources(stack, "old", "a").is("deployment.pending_operations.0.type", "creating")
			s.do("GET", stack+"/updates/2", nil).want(200).is("info.result", "failed").says("lease expired")
			s.do("GET", stack, nil).is("currentOperation", "")
			u.journal(success(5, 2, name, "b")).want(409)
		}
	})
}

func TestCompleteAfterExpiryIsRefused(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		u := s.start(stack, "update")
		u.journal(success(1, 1, "dev", "a")).want(204)
		s.wait(10 * time.Minute)
		u.complete("succeeded").want(409).says("timed out")
		s.resources(stack, "a")
	})
}

func TestCancelledUpdateGoesOnReporting(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		u := s.start(stack, "update")
		u.journal(provider(1, "web", "dev"), begin(2, 1, "dev", "a")).want(204)
		s.do("POST", u.path+"/cancel", nil, as(bob)).want(204)
		s.do("POST", u.path+"/cancel", nil, as(bob)).want(204)
		s.do("GET", stack, nil).want(200).is("currentOperation", "").is("activeUpdate", u.id)
		u.send("POST", "renew_lease", `{"token":"","duration":300}`).want(403).says("cancelled by bob")
		u.journal(success(3, 1, "dev", "a")).want(204)
		u.send("POST", "events", `{"sequence":0,"timestamp":1}`).want(204)
		s.resources(stack, "a") // as it would be if it ended now
		s.do("GET", stack+"/export/1", nil).want(200).says("id-a")
		s.do("GET", stack+"/updates", nil).want(200).is("updates.0.result", "failed")
		u.journal(begin(4, 2, "dev", "b"), success(5, 2, "dev", "b")).want(204)
		cancelled := s.time()
		s.wait(time.Minute)
		u.complete("succeeded").want(409).says("cancelled by bob")
		s.do("GET", stack+"/updates/1", nil).want(200).is("info.endTime", jsonInt(cancelled.Unix()))
		u.complete("succeeded").want(409)
		s.resources(stack, "a", "b")
		s.do("GET", stack+"/updates/1", nil).want(200).is("info.result", "failed").is("info.message", "first update (cancelled by bob)").is("requestedBy.githubLogin", "alice")
		s.do("GET", u.path, nil).want(200).is("status", "cancelled")
		s.do("POST", u.path+"/cancel", nil).want(204)
	})
}

func TestCancelledUpdateGivesWayToTheNext(t *testing.T) {
	next := map[string]func(s *service, stack string){
		"start":  func(s *service, stack string) { s.start(stack, "update").complete("succeeded").want(204) },
		"import": func(s *service, stack string) { s.do("POST", stack+"/import", deployment("dev", "x")).want(200) },
		"rename": func(s *service, stack string) { s.do("POST", stack+"/rename", `{"newName":"new"}`).want(200) },
		"expiry": func(s *service, stack string) { s.wait(10 * time.Minute); s.do("GET", stack, nil).want(200) },
	}
	for name, take := range next {
		t.Run(name, func(t *testing.T) {
			each(t, func(s *service) {
				stack := s.stack("web", "dev")
				u := s.start(stack, "update")
				u.journal(success(1, 1, "dev", "a")).want(204)
				s.do("POST", u.path+"/cancel", nil).want(204)
				u.journal(success(2, 2, "dev", "b")).want(204)
				take(s, stack)
				if name == "rename" {
					stack = "/api/stacks/acme/web/new"
				} else {
					u.journal(success(3, 3, "dev", "c")).want(409)
					u.complete("succeeded").want(409)
				}
				s.do("GET", stack+"/export/1", nil).want(200).says("id-a").says("id-b")
				s.do("GET", stack+"/updates/1", nil).want(200).is("info.result", "failed")
			})
		})
	}
}

func TestCancelOfWhatHasEnded(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		u := s.up(stack, "a")
		s.do("POST", u.path+"/cancel", nil).want(409).says("succeeded")
		p := s.start(stack, "preview")
		s.do("POST", p.path+"/cancel", nil).want(204)
		p.send("POST", "events", `{"sequence":0}`).want(409)
		s.do("GET", p.path, nil).want(200).is("status", "cancelled")
		s.do("GET", stack+"/updates", nil).want(200).is("total", "1")
	})
}

// A server that stops between closing an update and giving its state to the stack
// must not lose it: here the storage fails at that moment.
func TestEndIsFinishedAfterACrash(t *testing.T) {
	each(t, func(s *service) {
		folder := t.TempDir()
		reopen := func() {
			bucket, err := fileblob.OpenBucket(folder, &fileblob.Options{NoTempDir: true, Metadata: fileblob.MetadataDontWrite})
			if err != nil {
				t.Fatal(err)
			}
			s.bucket, s.config.Bucket = bucket, bucket
			s.open()
		}
		reopen()
		stack := s.stack("web", "dev")
		u := s.start(stack, "update")
		u.journal(provider(1, "web", "dev"), success(2, 1, "dev", "a")).want(204)
		_ = s.bucket.Close()
		u.complete("succeeded").want(503)
		u.complete("succeeded").want(503)
		s.do("GET", stack+"/updates/1", nil).want(503)
		u.journal(success(3, 2, "dev", "b")).want(409) // not acknowledged, as it would be lost
		reopen()
		s.resources(stack, "a")
		s.do("GET", stack+"/updates/1", nil).want(200).is("info.result", "succeeded")
		complete := u.path + "/complete"
		s.do("POST", complete, `{"status":"succeeded"}`, lease(u.token)).want(204) // the client's repetition
		s.do("GET", stack, nil).want(200).is("version", "1").is("currentOperation", "")
	})
}

func TestServersShareADatabase(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		u := s.start(stack, "update")
		s.open() // another server, or the same after a restart
		u.journal(success(1, 1, "dev", "a")).want(204)
		u.send("POST", "renew_lease", `{"token":"","duration":300}`).want(200)
		u.complete("succeeded").want(204)
		s.resources(stack, "a")
	})
}
