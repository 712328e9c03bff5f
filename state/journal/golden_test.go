package journal_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ipuka/ipuka/state/journal"
)

var update = flag.Bool("update", false, "write the golden files anew")

// A golden case is a folder of testdata: base.json, journal.jsonl with an entry a
// line, and want.json, what comes out to the byte.
func TestGolden(t *testing.T) {
	folders, err := filepath.Glob(filepath.Join("testdata", "replay", "*"))
	if err != nil || len(folders) == 0 {
		t.Fatal("no golden cases", err)
	}
	for _, folder := range folders {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			read := func(name string) []byte {
				raw, err := os.ReadFile(filepath.Join(folder, name))
				if err != nil {
					t.Fatal(err)
				}
				return raw
			}
			var entries []journal.Entry
			for line := range bytes.Lines(read("journal.jsonl")) {
				e, err := journal.Parse(jsontext.Value(bytes.TrimSpace(line)))
				if err != nil {
					t.Fatal(err)
				}
				entries = append(entries, e)
			}
			opts := options
			opts.Salvage = strings.HasPrefix(filepath.Base(folder), "gap")
			result, err := journal.Replay(read("base.json"), entries, opts)
			if err != nil {
				t.Fatal(err)
			}
			if opts.Salvage != (result.Gap != nil) || result.Integrity != "" {
				t.Errorf("gap %v, integrity %q", result.Gap, result.Integrity)
			}
			// One resource a line, so that a difference can be read.
			got := append(bytes.ReplaceAll(result.Deployment, []byte(`{"urn":`), []byte("\n"+`{"urn":`)), '\n')
			if *update {
				if err := os.WriteFile(filepath.Join(folder, "want.json"), got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := read("want.json"); !bytes.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}
