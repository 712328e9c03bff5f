package journal_test

import (
	"bufio"
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ipuka/ipuka/state/journal"
)

// exchange is a line of a recording.
type exchange struct {
	Method string         `json:"method"`
	Path   string         `json:"path"`
	Status int            `json:"status"`
	Body   jsontext.Value `json:"reqBody"`
	Answer jsontext.Value `json:"respBody"`
}

// recorded is an update that a client ran: the base that it read, the entries that it
// sent, and the state that was exported next.
type recorded struct {
	base      []byte
	entries   []journal.Entry
	completed bool
	after     []byte
}

// recordings returns the journaled updates of a file. Entries that were refused count
// only with refused.
func recordings(t *testing.T, file string, refused bool) map[string]*recorded {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	updates := map[string]*recorded{}
	exported := map[string][]byte{}   // by stack
	waiting := map[string]*recorded{} // for the export after, by stack
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var x exchange
		if err := json.Unmarshal(lines.Bytes(), &x); err != nil {
			t.Fatal(err)
		}
		stack, rest, _ := strings.Cut(strings.TrimPrefix(x.Path, "/api/stacks/"), "/update/")
		switch {
		case strings.HasSuffix(x.Path, "/export") && x.Status == 200:
			stack = strings.TrimSuffix(stack, "/export")
			exported[stack] = x.Answer
			if u := waiting[stack]; u != nil {
				u.after = x.Answer
				delete(waiting, stack)
			}
		case strings.HasSuffix(x.Path, "/import"), x.Method == "DELETE", strings.HasSuffix(x.Path, "/rename"):
			delete(waiting, strings.TrimSuffix(strings.TrimSuffix(stack, "/import"), "/rename"))
		case strings.HasSuffix(rest, "/journalentries") && (refused || x.Status < 300):
			u := updates[rest]
			if u == nil {
				u = &recorded{base: exported[stack]}
				updates[rest] = u
			}
			var body struct {
				Entries []jsontext.Value `json:"entries"`
			}
			if err := json.Unmarshal(x.Body, &body); err != nil {
				t.Fatalf("%s: %v", x.Path, err)
			}
			for _, raw := range body.Entries {
				e, err := journal.Parse(raw)
				if err != nil {
					t.Fatalf("%s: %v", x.Path, err)
				}
				u.entries = append(u.entries, e)
			}
		case strings.HasSuffix(rest, "/complete") && x.Status < 300:
			id := strings.TrimSuffix(rest, "/complete") + "/journalentries"
			if u := updates[id]; u != nil {
				u.completed = strings.Contains(string(x.Body), "succeeded")
				waiting[stack] = u
			}
		}
	}
	return updates
}

func recordingFiles(t *testing.T) []string {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join("..", "..", "..", "shared", "contract", "recordings", "*.jsonl"))
	if len(files) == 0 {
		t.Skip("the recordings of the real client are not here")
	}
	return files
}

// What the real client sent replays to a state that the real client accepts, and
// that has the resources which the recorded server had afterwards. That server puts
// resources in a wrong order and drops what waits for its deletion, so only the live
// resources are compared, as a set.
func TestRecordedJournals(t *testing.T) {
	updates, compared := 0, 0
	for _, file := range recordingFiles(t) {
		for id, u := range recordings(t, file, false) {
			updates++
			opts := options
			opts.Salvage = true
			result, err := journal.Replay(u.base, u.entries, opts)
			if err != nil {
				t.Errorf("%s %s: %v", filepath.Base(file), id, err)
				continue
			}
			if result.Integrity != "" || len(result.Skipped) > 0 {
				t.Errorf("%s %s: integrity %q, skipped %q", filepath.Base(file), id, result.Integrity, result.Skipped)
			}
			if result.Salvaged != (result.Gap != nil) {
				t.Errorf("%s %s: a journal of the real client contradicts itself", filepath.Base(file), id)
			}
			if result.Gap != nil || !u.completed || u.after == nil {
				continue
			}
			compared++
			have, want := live(t, result.Deployment), live(t, u.after)
			if !maps.Equal(have, want) {
				t.Errorf("%s %s:\nhave %v\nwant %v", filepath.Base(file), id, have, want)
			}
		}
	}
	if updates < 20 || compared < 5 {
		t.Errorf("only %d updates replayed and %d compared: the recordings are not understood", updates, compared)
	}
}

// Every prefix of a recorded journal leaves an acceptable state, and cut-up batches
// and repeated ones change nothing.
func TestRecordedPrefixes(t *testing.T) {
	for _, file := range recordingFiles(t) {
		for id, u := range recordings(t, file, true) {
			if journal.Check(u.entries) != nil {
				continue
			}
			entries := slices.Clone(u.entries)
			slices.SortFunc(entries, func(a, b journal.Entry) int { return int(a.Sequence() - b.Sequence()) })
			for n := range entries {
				result, err := journal.Replay(u.base, entries[:n+1], options)
				if err != nil || result.Integrity != "" {
					t.Fatalf("%s %s after %d entries: %v, %s", filepath.Base(file), id, n+1, err, result.Integrity)
				}
			}
			want, _ := journal.Replay(u.base, entries, options)
			slices.Reverse(entries)
			got, err := journal.Replay(u.base, append(entries, u.entries...), options)
			if err != nil || !bytes.Equal(got.Deployment, want.Deployment) {
				t.Fatalf("%s %s: shuffled: %v", filepath.Base(file), id, err)
			}
		}
	}
}

// live returns the live resources of a deployment by URN.
func live(t *testing.T, raw []byte) map[string]string {
	t.Helper()
	var u struct {
		Deployment struct {
			Resources []map[string]jsontext.Value `json:"resources"`
		} `json:"deployment"`
	}
	if err := json.Unmarshal(raw, &u); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, r := range u.Deployment.Resources {
		if r["delete"] != nil {
			continue
		}
		line := ""
		for _, name := range slices.Sorted(maps.Keys(r)) {
			value := r[name].Clone()
			if err := value.Canonicalize(); err != nil {
				t.Fatal(err)
			}
			line += name + "=" + string(value) + " "
		}
		all[string(r["urn"])] = line
	}
	return all
}
