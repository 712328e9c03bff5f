package state_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ipuka/ipuka/internal/assertion"
)

func TestUpdate(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		s.do("GET", stack, nil).want(200).is("orgName", "acme").is("projectName", "web").is("stackName", "dev").
			is("version", "0").is("activeUpdate", "").is("currentOperation", "").is("tags.pulumi:project", "web")
		s.do("GET", stack+"/export", nil).want(200).is("version", "3").is("deployment.resources", "[]")

		u := s.startWith(stack, "update", `{"tags":{"pulumi:project":"web","env":"x"},"journalVersion":1}`)
		if u.version != "1" {
			t.Fatalf("version %s", u.version)
		}
		s.do("GET", stack, nil).want(200).is("activeUpdate", u.id).is("currentOperation.kind", "update").
			is("currentOperation.author", "alice").is("tags.env", "x")
		u.journal(provider(1, "web", "dev"), begin(2, 1, "dev", "a")).want(204)
		s.resources(stack) // readers see the base
		u.journal(success(3, 1, "dev", "a")).want(204)
		u.send("POST", "events/batch", `{"events":[
			{"sequence":1,"timestamp":2,"summaryEvent":{"maybeCorrupt":false,"durationSeconds":1,"resourceChanges":{"create":1},"PolicyPacks":{}}},
			{"sequence":0,"timestamp":1,"preludeEvent":{"config":{}}}]}`).want(204)
		s.do("GET", stack+"/updates?pageSize=10&page=1", nil).want(200).is("updates.0.result", "in-progress")
		s.do("GET", stack+"/export/1", nil).want(404).says("running")
		u.complete("succeeded").want(204)
		u.complete("succeeded").want(204)
		u.complete("failed").want(409).says("has ended (succeeded)")
		u.journal(success(4, 2, "dev", "b")).want(409)

		s.do("GET", stack, nil).want(200).is("version", "1").is("activeUpdate", u.id).is("currentOperation", "")
		a := s.resources(stack, "a").says(`"n":1.0,"big":12345678901234567890,"html":"<&>"`).
			is("deployment.secrets_providers.state.stack", "dev").is("deployment.manifest.version", "v3.259.0")
		if v := s.do("GET", stack+"/export/1", nil).want(200); string(v.body) != string(a.body) {
			t.Errorf("version 1 is %s", v.body)
		}
		s.do("GET", stack+"/export/2", nil).want(404)
		s.do("GET", stack+"/export/0", nil).want(400)
		s.do("GET", stack+"/updates?pageSize=10&page=1", nil).want(200).is("updates.0.kind", "update").is("updates.0.result", "succeeded").
			is("updates.0.message", "first update").is("updates.0.environment.exec.kind", "").is("updates.0.version", "1").
			is("updates.0.resourceChanges", `{"create":1}`).is("updates.0.resourceCount", "1").says(`"exec.kind":"cli"`).
			is("updates.0.config.web:plain.string", "v1").is("total", "1")
		s.do("GET", stack+"/updates/latest", nil).want(200).is("updateID", u.id).is("info.version", "1").is("latestVersion", "1").
			is("requestedBy.githubLogin", "alice")
		s.do("GET", stack+"/updates/1", nil).want(200).is("updateID", u.id)
		s.do("GET", stack+"/updates/2", nil).want(404)
		s.do("GET", stack+"/updates/x", nil).want(400)
		s.do("GET", stack+"/update/"+u.id, nil).want(200).is("status", "succeeded").is("continuationToken", "")
	})
}

func TestKindWordsAreAliases(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		id := s.create(stack, "destroy", false)
		token := s.do("POST", stack+"/update/"+id, `{"journalVersion":1}`).want(200).get("token")
		s.do("PATCH", stack+"/refresh/"+id+"/journalentries", `{"entries":[]}`, lease(token)).want(204)
		s.do("POST", stack+"/preview/"+id+"/complete", `{"status":"succeeded"}`, lease(token)).want(204)
		s.do("GET", stack+"/updates/1", nil).want(200).is("info.kind", "destroy")
		s.do("GET", stack+"/import/"+id, nil).want(404)
	})
}

func TestPreviewTakesNothing(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		s.up(stack, "a")
		writer := s.start(stack, "update")
		for _, c := range []struct {
			kind   string
			dryRun bool
			shown  string
		}{{"preview", false, "preview"}, {"update", true, "Pupdate"}, {"destroy", true, "Pdestroy"}} {
			s.wait(1e9)
			id := s.create(stack, c.kind, c.dryRun)
			p := run{service: s, stack: stack, id: id, path: stack + "/update/" + id}
			a := s.do("POST", p.path, `{"tags":{"gone":"x"},"journalVersion":1}`).want(200).is("version", "2")
			p.token = a.get("token")
			p.journal(success(1, 1, "dev", "b")).want(403)
			p.send("PATCH", "checkpoint", `{"version":3,"deployment":{}}`).want(403)
			p.send("POST", "events", `{"sequence":0,"timestamp":1,"summaryEvent":{"resourceChanges":{"same":3}}}`).want(204)
			p.send("POST", "renew_lease", `{"token":"","duration":300}`).want(200)
			p.complete("succeeded").want(204)
			s.do("GET", stack+"/previews/"+id, nil).want(200).is("info.kind", c.shown).is("info.resourceChanges.same", "3").is("updateID", id)
			s.do("GET", stack+"/updates/latest/previews?asc=false&pageSize=1&page=1", nil).want(200).is("updates.0.updateID", id)
		}
		s.do("GET", stack+"/updates/latest/previews?page=0", nil).want(200).is("total", "3").is("updates.2.info.kind", "Pdestroy")
		s.do("GET", stack+"/updates/latest/previews?page=2&pageSize=2", nil).want(200).is("updates.0.info.kind", "Pdestroy").is("updates.1", "")
		s.do("GET", stack+"/previews/"+writer.id, nil).want(404)
		s.do("GET", stack, nil).want(200).is("activeUpdate", writer.id).is("version", "2").is("tags.gone", "")
		writer.complete("succeeded").want(204)
		s.do("GET", stack+"/updates", nil).want(200).is("total", "2").is("updates.2", "")
		s.resources(stack, "a")
	})
}

func TestStartNeedsWhatTheGateGrants(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		reader := assertion.Caller{ID: "u3", Login: "rita"}
		s.do("POST", stack+"/update/"+s.create(stack, "update", false, as(reader)), `{}`, as(reader)).want(403).says("stack:write")
		s.do("POST", stack+"/update/"+s.create(stack, "update", true, as(reader)), `{}`, as(reader)).want(200)
		s.do("POST", stack+"/update/"+s.create(stack, "update", false), `{}`, as(bob)).want(403).says("alice")

		writer := assertion.Caller{ID: "u4", Login: "wendy", Granted: []string{"stack:write"}}
		u := s.startWith(stack, "update", `{"tags":{"env":"prod"}}`, as(writer))
		s.do("GET", stack, nil).want(200).is("tags.env", "")
		u.complete("succeeded").want(204)
		s.startWith(stack, "update", `{"tags":{"env":"prod"}}`)
		s.do("GET", stack, nil).want(200).is("tags.env", "prod")
	})
}

func TestSecondStartIsRefused(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		u := s.start(stack, "update")
		other := s.create(stack, "refresh", false, as(bob)) // create never conflicts
		s.do("POST", stack+"/update/"+other, `{}`, as(bob)).want(409).says("alice started update 1 (update) at 2026-03-01T12:00:00Z")
		s.do("POST", u.path, `{}`).want(409)
		u.complete("failed").want(204)
		s.do("POST", u.path, `{}`).want(409).says("started before") // over, and not to be run again
		p := s.start(stack, "preview")
		s.do("POST", p.path, `{}`).want(409).says("started before")
		s.do("POST", stack+"/update/"+other, `{}`, as(bob)).want(200).is("version", "2").is("journalVersion", "")
		s.do("GET", stack, nil).want(200).is("currentOperation.author", "bob").is("currentOperation.kind", "refresh")
	})
}

func TestOneOfManyStartsWins(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		const many = 12
		ids := make([]string, many)
		for i := range ids {
			ids[i] = s.create(stack, "update", false)
		}
		var won, lost atomic.Int32
		var wait sync.WaitGroup
		for _, id := range ids {
			wait.Go(func() {
				switch a := s.do("POST", stack+"/update/"+id, `{"journalVersion":1}`); a.status {
				case 200:
					won.Add(1)
				case 409:
					lost.Add(1)
				default:
					t.Errorf("status %d: %s", a.status, a.body)
				}
			})
		}
		wait.Wait()
		if won.Load() != 1 || lost.Load() != many-1 {
			t.Errorf("%d started, %d were refused", won.Load(), lost.Load())
		}
	})
}

func TestJournalBatchesMayRepeatAndOvertake(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		u := s.start(stack, "update")
		late := []string{success(5, 2, "dev", "b"), begin(4, 2, "dev", "b")}
		u.journal(late...).want(204)
		u.journal(late...).want(204)
		u.journal(success(3, 1, "dev", "a"), provider(1, "web", "dev"), begin(2, 1, "dev", "a"), begin(4, 2, "dev", "b")).want(204)
		// One entry that differs refuses its whole batch.
		u.journal(success(6, 3, "dev", "c"), begin(4, 2, "dev", "other")).want(409).says("entry 4")
		u.journal(success(6, 3, "dev", "c"), success(6, 3, "dev", "d")).want(409)
		u.journal(`{"version":1,"kind":99,"sequenceID":6,"operationID":1}`).want(400)
		u.journal(`{"version":1,"kind":1,"sequenceID":0,"operationID":1}`).want(400)
		u.complete("succeeded").want(204)
		s.resources(stack, "a", "b")
	})
}

func TestGapFailsTheUpdate(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		s.up(stack, "old")
		u := s.start(stack, "update")
		u.journal(provider(1, "web", "dev"), begin(2, 1, "dev", "a"), success(3, 1, "dev", "a"), success(6, 2, "dev", "b")).want(204)
		u.complete("succeeded").want(409).says("gap").says("number 4")
		u.complete("succeeded").want(409).says("gap")
		s.do("GET", stack+"/updates/2", nil).want(200).is("info.result", "failed").says("first update (the journal has a gap")
		s.do("GET", u.path+"/events", nil).want(200).is("events.0.diagnosticEvent.severity", "error").says("the journal has a gap").is("continuationToken", "null")
		s.resources(stack, "old", "a", "b") // nothing acknowledged is lost
		s.do("GET", stack, nil).is("currentOperation", "")
		s.up(stack, "next")
	})
}

func TestFailedUpdateKeepsWhatItDid(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		u := s.start(stack, "update")
		u.journal(provider(1, "web", "dev"), begin(2, 1, "dev", "a"), success(3, 1, "dev", "a"), begin(4, 2, "dev", "b")).want(204)
		u.complete("failed").want(204)
		s.resources(stack, "a").is("deployment.pending_operations.0.resource.urn", urn("dev", "b")).is("deployment.pending_operations.1", "")
		s.do("GET", stack+"/updates/1", nil).want(200).is("info.result", "failed").is("info.message", "first update").is("info.resourceCount", "1")

		// A client that was interrupted never sent what is missing: that is no fault.
		u = s.start(stack, "update")
		u.journal(provider(1, "web", "dev"), success(3, 1, "dev", "c")).want(204)
		u.complete("failed").want(204)
		s.resources(stack, "a", "c")
		s.do("GET", stack+"/updates/2", nil).want(200).is("info.message", "first update")
	})
}

func TestUpdateBelongsToItsStack(t *testing.T) {
	each(t, func(s *service) {
		stack, other := s.stack("web", "dev"), s.stack("web", "other")
		u := s.start(stack, "update")
		theirs := s.start(other, "update")
		for _, path := range []string{"", "/events"} {
			s.do("GET", other+"/update/"+u.id+path, nil).want(404)
		}
		s.do("POST", other+"/update/"+u.id+"/cancel", nil).want(404)
		s.do("POST", other+"/update/"+s.create(stack, "update", false), `{}`).want(404)
		for _, c := range []struct{ path, token string }{
			{other + "/update/" + u.id, u.token},      // wrong stack
			{other + "/update/" + theirs.id, u.token}, // wrong update
			{u.path, theirs.token},
			{u.path, "x"},
			{u.path, ""},
			{stack + "/update/nonsense", u.token},
			{"/api/stacks/acme/web/none/update/" + u.id, u.token},
			{stack + "/update/" + s.create(stack, "update", false), ""},
		} {
			for _, call := range []string{"PATCH journalentries", "PATCH checkpoint", "PATCH checkpointverbatim", "PATCH checkpointdelta",
				"POST events", "POST events/batch", "POST renew_lease", "POST complete"} {
				method, name, _ := strings.Cut(call, " ")
				s.do(method, c.path+"/"+name, `{}`, lease(c.token)).want(403)
			}
		}
		u.complete("succeeded").want(204)
	})
}

func TestBadUpdates(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		for _, body := range []string{``, `[]`, `{`, `{"options":{"dryRun":"yes"}}`, `{"options":{"dryRun":true},"Options":{"dryRun":false}}`,
			`{"options":{},"options":{}}`, `{"config":{"a":1}}`, `{"metadata":{"environment":{"a":1}}}`, `{"config":[]}`,
			strings.Repeat("[", 100000)} {
			s.do("POST", stack+"/update", body).want(400)
		}
		s.do("POST", "/api/stacks/acme/web/none/update", `{}`).want(404)
		u := s.start(stack, "update")
		for _, body := range []string{`{}`, `{"status":"running"}`, `{"status":""}`, `nonsense`} {
			u.send("POST", "complete", body).want(400)
		}
		u.send("PATCH", "journalentries", `{"entries":[1]}`).want(400)
		u.send("PATCH", "checkpoint", `{"version":3,"deployment":{}}`).want(409) // it journals
		s.do("POST", u.path+"/bad", `{}`).want(404)
	})
}

func TestUnstartedUpdatesAreDropped(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		id := s.create(stack, "update", false)
		s.do("POST", stack+"/update/"+id+"/cancel", nil).want(409)
		s.wait(61 * 60 * 1e9)
		s.do("POST", stack+"/update/"+id, `{}`).want(409).says("create a new one")
		s.open()
		s.do("GET", stack+"/update/"+id, nil).want(404)
	})
}

func TestManyEntries(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		u := s.start(stack, "update")
		var entries []string
		for i := range 1200 {
			entries = append(entries, success(i+1, i+1, "dev", fmt.Sprint("r", i)))
		}
		u.journal(entries...).want(204)
		u.journal(entries[300:900]...).want(204)
		u.complete("succeeded").want(204)
		s.do("GET", stack+"/updates/1", nil).want(200).is("info.resourceCount", "1200")
	})
}
