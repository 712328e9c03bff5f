package journal_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ipuka/ipuka/state/journal"
)

// big returns a base of n resources and the raw journal of an update that changes
// each of them, about a kilobyte apiece.
func big(n int) (base []byte, raws []jsontext.Value) {
	const prov = `urn:pulumi:dev::web::pulumi:providers:t::p`
	state := func(i int, mark string) string {
		refs := `"dependencies":[]`
		if i > 0 {
			refs = `"parent":"$r0",` + deps(fmt.Sprintf("r%d", i-1), fmt.Sprintf("r%d", i/2))
		}
		return res(fmt.Sprintf("r%d", i), "id", refs, `"provider":"`+prov+`::1"`, fmt.Sprintf(`"outputs":{%s%q:1.0}`, properties(i), mark))
	}
	resources := []string{`{"urn":"` + prov + `","custom":true,"id":"1","type":"pulumi:providers:t"}`}
	for i := range n {
		resources = append(resources, state(i, "old"))
	}
	add := func(text string) {
		raws = append(raws, jsontext.Value(long(fmt.Sprintf(`{"version":1,"sequenceID":%d,%s}`, len(raws)+1, text))))
	}
	add(success(1, resources[0], `"removeOld":0`))
	for i := range n {
		add(begin(i+2, "updating", state(i, "new")))
		add(success(i+2, state(i, "new"), fmt.Sprintf(`"removeOld":%d`, i+1)))
	}
	return []byte(long(baseOf(resources...))), raws
}

func properties(i int) string {
	var b strings.Builder
	for j := range 12 {
		fmt.Fprintf(&b, `"property %d":"some value that is not short %d",`, j, i)
	}
	return b.String()
}

func BenchmarkReplay(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		base, raws := big(n)
		entries := make([]journal.Entry, len(raws))
		size := len(base)
		for i, raw := range raws {
			entries[i], _ = journal.Parse(raw)
			size += len(raw)
		}
		b.Run(fmt.Sprintf("replay-%d", n), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if result, err := journal.Replay(base, entries, options); err != nil || result.ResourceCount != n+1 || result.Integrity != "" {
					b.Fatal(err, result.Integrity)
				}
			}
		})
		b.Run(fmt.Sprintf("parse-and-replay-%d", n), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				for i, raw := range raws {
					var err error
					if entries[i], err = journal.Parse(raw); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := journal.Replay(base, entries, options); err != nil {
					b.Fatal(err)
				}
			}
		})
		// A gap behind the first entry makes all of it a salvage.
		b.Run(fmt.Sprintf("salvage-%d", n), func(b *testing.B) {
			opts := options
			opts.Salvage = true
			for b.Loop() {
				if result, err := journal.Replay(base, append(entries[:1:1], entries[2:]...), opts); err != nil || result.ResourceCount != n+1 {
					b.Fatal(err, result.ResourceCount)
				}
			}
		})
	}
}
