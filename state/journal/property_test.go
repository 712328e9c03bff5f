package journal_test

import (
	"bytes"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ipuka/ipuka/state/journal"
)

var options = journal.Options{EngineVersion: "v3.259.0", Now: time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)}

func replay(t failer, g *engine, entries []entry, opts journal.Options) (journal.Result, untyped) {
	t.Helper()
	result, err := journal.Replay(g.base, parse(t, entries), opts)
	if err != nil {
		t.Fatalf("replay: %v\nbase %s\nentries %s", err, g.base, encode(entries))
	}
	return result, decode(t, result.Deployment)
}

// Whenever the client dies, the state holds all that was acknowledged, and one
// pending operation for each step under way.
func TestEveryPrefixIsTheWorld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := generate(t)
		for n := 1; n <= len(g.entries); n++ {
			result, got := replay(t, g, g.entries[:n], options)
			g.renamed = g.names[n-1]
			have := g.lines(got.Deployment.Resources, got.Deployment.Operations)
			want := g.after[n-1]
			if !slices.Equal(have.resources, want.resources) {
				t.Fatalf("after %d entries the resources differ:\n%s\nlast entry %s", n,
					difference(have.resources, want.resources), encode(g.entries[n-1]))
			}
			if !slices.Equal(have.operations, want.operations) {
				t.Fatalf("after %d entries the operations are %q, want %q", n, have.operations, want.operations)
			}
			if result.Integrity != "" {
				t.Fatalf("after %d entries: %s\nbase %s\nentries %s", n, result.Integrity, g.base, encode(g.entries[:n]))
			}
			if result.Salvaged || result.Gap != nil || len(result.Skipped) > 0 {
				t.Fatalf("a sound journal was salvaged: %+v", result)
			}
			if result.ResourceCount != len(want.resources) {
				t.Fatalf("%d resources, want %d", result.ResourceCount, len(want.resources))
			}
		}
	})
}

// difference lists the lines that only one side has.
func difference(have, want []string) string {
	var lines []string
	for _, line := range have {
		if !slices.Contains(want, line) {
			lines = append(lines, "have "+line)
		}
	}
	for _, line := range want {
		if !slices.Contains(have, line) {
			lines = append(lines, "want "+line)
		}
	}
	return strings.Join(lines, "\n")
}

// Order of arrival and repeated batches change no byte.
func TestShufflesAndDuplicatesChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := generate(t)
		want, _ := replay(t, g, g.entries, options)
		mixed := slices.Clone(g.entries)
		for range rapid.IntRange(0, 5).Draw(t, "duplicates") {
			mixed = append(mixed, mixed[rapid.IntRange(0, len(mixed)-1).Draw(t, "which")])
		}
		rand.New(rand.NewSource(rapid.Int64().Draw(t, "order"))).Shuffle(len(mixed), func(i, j int) {
			mixed[i], mixed[j] = mixed[j], mixed[i]
		})
		if err := journal.Check(parse(t, mixed)); err != nil {
			t.Fatalf("check: %v", err)
		}
		got, _ := replay(t, g, mixed, options)
		if !bytes.Equal(got.Deployment, want.Deployment) {
			t.Fatalf("got %s\nwant %s", got.Deployment, want.Deployment)
		}
	})
}

// Asking for salvage does not change what a sound journal means.
func TestSalvageOfASoundJournalIsReplay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := generate(t)
		n := rapid.IntRange(0, len(g.entries)).Draw(t, "prefix")
		want, _ := replay(t, g, g.entries[:n], options)
		opts := options
		opts.Salvage = true
		got, _ := replay(t, g, g.entries[:n], opts)
		if !bytes.Equal(got.Deployment, want.Deployment) || got.Salvaged {
			t.Fatalf("got %s\nwant %s", got.Deployment, want.Deployment)
		}
	})
}

type key struct{ urn, id string }

func (g *engine) key(s state) key {
	for g.renamed[s.URN] != "" {
		s.URN = g.renamed[s.URN]
	}
	return key{s.URN, s.ID}
}

func keys(g *engine, resources []state) map[key]bool {
	all := map[key]bool{}
	for _, s := range resources {
		all[g.key(s)] = true
	}
	return all
}

// owed returns what must be in the state of a journal of which only entries are
// left: what the base had and what was acknowledged, less what an acknowledged entry
// took away.
func (g *engine) owed(t failer, entries []entry) map[key]bool {
	owed := map[key]bool{}
	base := decode(t, g.base).Deployment.Resources
	for _, s := range base {
		if !s.Pending {
			owed[g.key(s)] = true
		}
	}
	// Where the entries point, according to the whole journal.
	added := map[int64]state{}
	gone := map[int64]key{} // by sequence
	indexed := slices.Clone(base)
	vanished := map[int64]bool{}
	for _, e := range g.entries {
		target := func(old, new *int64) {
			if old != nil {
				gone[e.Sequence] = g.key(indexed[*old])
			} else if new != nil {
				gone[e.Sequence] = g.key(added[*new])
			}
		}
		switch e.Kind {
		case 1:
			target(e.RemoveOld, e.RemoveNew)
			if e.PendingOld != nil || e.PendingNew != nil {
				target(e.PendingOld, e.PendingNew)
			}
			if e.State != nil {
				added[e.Operation] = *e.State
			}
		case 3:
			if e.State == nil {
				target(e.RemoveOld, nil)
				vanished[*e.RemoveOld] = true
			}
		case 7:
			var rest []state
			for i, s := range indexed {
				if !vanished[int64(i)] {
					rest = append(rest, s)
				}
			}
			indexed = rest
		}
	}
	for _, e := range entries {
		if k, ok := gone[e.Sequence]; ok && (e.Kind == 1 || e.Kind == 3) {
			delete(owed, k)
		}
		if e.Kind == 1 && e.State != nil {
			owed[g.key(*e.State)] = true
		}
	}
	return owed
}

// Whatever entries are lost: nothing that was acknowledged is missing, and the state
// is one that a client accepts.
func TestLossesLoseNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := generate(t)
		percent := rapid.IntRange(1, 60).Draw(t, "loss")
		var left []entry
		for _, e := range g.entries {
			if rapid.IntRange(0, 99).Draw(t, "lost") >= percent {
				left = append(left, e)
			}
		}
		opts := options
		opts.Salvage = true
		result, got := replay(t, g, left, opts)
		if result.Integrity != "" {
			t.Fatalf("integrity: %s\nbase %s\nentries %s\ngot %s", result.Integrity, g.base, encode(left), result.Deployment)
		}
		have := keys(g, got.Deployment.Resources)
		for k := range g.owed(t, left) {
			if !have[k] {
				t.Fatalf("%v is lost (skipped %q)\nbase %s\nentries %s\ngot %s", k, result.Skipped, g.base, encode(left), result.Deployment)
			}
		}
	})
}

// A client does not notice when entries are lost that it does not wait for. Then the
// resources are those of the whole journal.
func TestLostElidedEntriesLeaveTheBase(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := generate(t)
		var left []entry
		for _, e := range g.entries {
			if !e.elided || rapid.Bool().Draw(t, "kept") {
				left = append(left, e)
			}
		}
		_, whole := replay(t, g, g.entries, options)
		opts := options
		opts.Salvage = true
		result, got := replay(t, g, left, opts)
		if result.Integrity != "" || len(result.Skipped) > 0 {
			t.Fatalf("integrity %q, skipped %q\nbase %s\nentries %s", result.Integrity, result.Skipped, g.base, encode(left))
		}
		type flagged struct {
			id              string
			delete, pending bool
		}
		count := func(u untyped) map[flagged]int {
			all := map[flagged]int{}
			for _, s := range u.Deployment.Resources {
				id := s.ID
				if id == "" {
					id = s.URN
				}
				all[flagged{id, s.Delete, s.Pending}]++
			}
			return all
		}
		a, b := count(got), count(whole)
		if len(a) != len(b) {
			t.Fatalf("got %v\nwant %v\nbase %s\nentries %s", a, b, g.base, encode(left))
		}
		for k := range b {
			if a[k] != b[k] {
				t.Fatalf("%v: %d times, want %d\nbase %s\nentries %s", k, a[k], b[k], g.base, encode(left))
			}
		}
		if gap := journal.Check(parse(t, left)); (gap == nil) != (result.Gap == nil) {
			t.Fatalf("Check says %v, Replay %v", gap, result.Gap)
		}
	})
}
