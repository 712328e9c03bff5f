package state_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/state"
)

// However much of a journal has arrived when an update ends, and however it ends: the
// state has every success that was acknowledged, and a pending operation for every
// step that had begun. The order of batches and repetitions make no difference.
func TestEveryPrefixOfAJournalIsKept(t *testing.T) {
	s := newService(t, databasetest.SQLite(t, state.Migrations))
	var stacks int
	rapid.Check(t, func(t *rapid.T) {
		stacks++
		name := fmt.Sprint("s", stacks)
		stack := s.stack("web", name)
		type step struct{ name, end string }
		steps := make([]step, rapid.IntRange(1, 8).Draw(t, "steps"))
		for i := range steps {
			steps[i] = step{fmt.Sprint("r", i), rapid.SampledFrom([]string{"success", "failure", "open"}).Draw(t, "end")}
		}
		entries := []string{provider(1, "web", name)}
		state := func(n int) (created, pending []string) {
			for i, st := range steps {
				begun, ended := 2+2*i, 3+2*i
				switch {
				case n >= ended && st.end == "success":
					created = append(created, st.name)
				case n >= begun && (n < ended || st.end == "open"):
					pending = append(pending, st.name)
				}
			}
			return created, pending
		}
		for i, st := range steps {
			entries = append(entries, begin(2+2*i, i+1, name, st.name))
			switch st.end {
			case "success":
				entries = append(entries, success(3+2*i, i+1, name, st.name))
			case "failure":
				entries = append(entries, strings.Replace(success(3+2*i, i+1, name, st.name), `"kind":1`, `"kind":2`, 1))
			case "open": // something else takes the number
				entries = append(entries, provider(3+2*i, "web", name))
			}
		}
		cut := rapid.IntRange(0, len(entries)).Draw(t, "cut")
		sent := append([]string(nil), entries[:cut]...)
		sent = append(sent, sent[:rapid.IntRange(0, cut).Draw(t, "repeated")]...)
		shuffle := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		shuffle.Shuffle(len(sent), func(i, k int) { sent[i], sent[k] = sent[k], sent[i] })

		u := s.start(stack, "update")
		for len(sent) > 0 {
			n := rapid.IntRange(1, len(sent)).Draw(t, "batch")
			u.journal(sent[:n]...).want(204)
			sent = sent[n:]
		}
		switch rapid.SampledFrom([]string{"failed", "cancel", "expiry", "restart"}).Draw(t, "how") {
		case "failed":
			u.complete("failed").want(204)
		case "cancel":
			s.do("POST", u.path+"/cancel", nil).want(204)
			u.complete("succeeded").want(409)
		case "expiry":
			s.wait(10 * time.Minute)
		case "restart":
			s.wait(10 * time.Minute)
			s.open()
		}
		created, pending := state(cut)
		a := s.resources(stack, created...)
		for i, want := range append(pending, "") {
			got := a.get(fmt.Sprintf("deployment.pending_operations.%d.resource.urn", i))
			if want == "" && got != "" || want != "" && got != urn(name, want) {
				t.Fatalf("pending operation %d is %q, want %q", i, got, want)
			}
		}
	})
}

// An entry that is acknowledged while the update is being taken away is in the state.
func TestNothingAcknowledgedIsLostInARace(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		for round := range 6 {
			u := s.start(stack, "update")
			s.do("POST", u.path+"/cancel", nil).want(204)
			next := s.create(stack, "update", false)
			var mu sync.Mutex
			var kept []string
			enough, threshold := make(chan struct{}), rand.IntN(30)
			var wait sync.WaitGroup
			for writer := range 4 {
				wait.Go(func() {
					for i := range 15 {
						n := writer*100 + i + 1
						name := fmt.Sprintf("r%d-%d", round, n)
						switch a := u.journal(success(n, n, "dev", name)); a.status {
						case 204:
							mu.Lock()
							if kept = append(kept, name); len(kept) == threshold+1 {
								close(enough)
							}
							mu.Unlock()
						case 409:
							return
						default:
							t.Errorf("status %d: %s", a.status, a.body)
						}
					}
				})
			}
			wait.Go(func() {
				<-enough
				s.do("POST", stack+"/update/"+next, `{"journalVersion":1}`).want(200)
			})
			wait.Wait()
			body := string(s.do("GET", stack+"/export/"+u.version, nil).want(200).body)
			for _, name := range kept {
				if !strings.Contains(body, "id-"+name+`"`) {
					t.Errorf("round %d: %s was acknowledged and is lost", round, name)
				}
			}
			v := s.do("GET", stack, nil).get("activeUpdate")
			s.do("POST", stack+"/update/"+v+"/cancel", nil).want(204)
		}
	})
}

func TestBodyLimits(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		u := s.start(stack, "update")
		bomb := append([]byte(`{"entries":[`), make([]byte, 2<<20)...) // which expands a thousand times
		u.send("PATCH", "journalentries", bomb).want(413)
		s.do("POST", stack+"/rename", append([]byte(`{"newName":"`), make([]byte, 2<<20)...)).want(413)
		u.journal(success(1, 1, "dev", "a")).want(204)
	})
}

func BenchmarkJournalBatch(b *testing.B) {
	s := newService(b, databasetest.SQLite(b, state.Migrations))
	u := s.start(s.stack("web", "dev"), "update")
	sequence := 0
	for b.Loop() {
		var entries []string
		for range 4 {
			entries = append(entries, begin(sequence+1, sequence+1, "dev", fmt.Sprint("r", sequence)), success(sequence+2, sequence+1, "dev", fmt.Sprint("r", sequence)))
			sequence += 2
		}
		u.journal(entries...).want(204)
	}
}
