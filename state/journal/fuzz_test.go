package journal_test

import (
	"bytes"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ipuka/ipuka/state/journal"
)

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		success(1, someState, `"version":1,"sequenceID":1,"removeOld":0`),
		begin(1, "creating", someState) + `,"version":1,"sequenceID":1`,
		`"version":1,"kind":5,"sequenceID":1,"operationID":0,"newSnapshot":{"resources":[` + someState + `],"extensions":{"r":{}}}`,
		`"version":1,"kind":6,"sequenceID":1,"operationID":0,"secretsProvider":{"type":"t","state":{}}`,
		`"version":1,"kind":9,"sequenceID":1,"operationID":0,"snippets":[{"uuid":"u","references":{"a":"b"}}]`,
	} {
		f.Add([]byte("{" + seed + "}"))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := journal.Parse(jsontext.Value(raw))
		if err != nil {
			return
		}
		if !bytes.Equal(e.Raw(), raw) || e.Sequence() < 1 || e.Kind() < journal.Begin || e.Kind() > journal.Snippets {
			t.Fatalf("%+v", e)
		}
		opts := options
		opts.Salvage = true
		if _, err := journal.Replay(nil, []journal.Entry{e}, opts); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzReplay replays any base and any journal, an entry a line. What comes out can be
// read and replayed again, and is not much longer than what went in.
func FuzzReplay(f *testing.F) {
	f.Add([]byte(long(abc)), []byte(long(success(1, b, `"version":1,"sequenceID":1,"removeOld":1`))))
	f.Add([]byte(long(baseOf(res("a", "1", `"aliases":["$z"],"parent":"$a"`)))), []byte(`"version":1,"kind":7,"sequenceID":3,"operationID":0`))
	f.Add([]byte(long(baseOf(a, b))), []byte(long(kind(3, 1, "", `"version":1,"sequenceID":1,"removeOld":0`)+"\n"+begin(2, "deleting", b)+`,"version":1,"sequenceID":3`)))
	f.Fuzz(func(t *testing.T, base, lines []byte) {
		var entries []journal.Entry
		for line := range bytes.Lines(lines) {
			if e, err := journal.Parse(append(append([]byte{'{'}, bytes.TrimSpace(line)...), '}')); err == nil {
				entries = append(entries, e)
			}
		}
		for _, salvage := range []bool{false, true} {
			opts := options
			opts.Salvage = salvage
			result, err := journal.Replay(base, entries, opts)
			if err != nil {
				continue
			}
			if err := journal.Validate(result.Deployment); err != nil && len(result.Features) == 0 {
				t.Fatalf("%v: %s", err, result.Deployment)
			}
			n, err := journal.ResourceCount(result.Deployment)
			if err != nil || n != result.ResourceCount {
				t.Fatalf("%d resources, %d counted, %v", result.ResourceCount, n, err)
			}
			if len(result.Deployment) > 4*(len(base)+len(lines))+4*16<<20 {
				t.Fatalf("%d bytes became %d", len(base)+len(lines), len(result.Deployment))
			}
			if _, err := journal.Replay(result.Deployment, nil, opts); err != nil {
				t.Fatalf("%v: %s", err, result.Deployment)
			}
			if _, err := journal.Rename(result.Deployment, from, to); err != nil {
				t.Fatalf("%v: %s", err, result.Deployment)
			}
		}
	})
}
