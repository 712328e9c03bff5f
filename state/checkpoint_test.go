package state_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"gocloud.dev/blob"
	"pgregory.net/rapid"

	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/state"
)

func verbatim(raw string, sequence int) string {
	return fmt.Sprintf(`{"version":3,"untypedDeployment":%s,"sequenceNumber":%d}`, raw, sequence)
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// delta replaces the bytes from start to end of base.
func delta(base string, start, end int, text string, sequence int, sum string) (body, result string) {
	result = base[:start] + text + base[end:]
	if sum == "" {
		sum = hash(result)
	}
	edits, _ := json.Marshal([]map[string]any{{"Span": map[string]any{"uri": "", "start": map[string]int{"line": 1, "column": 1, "offset": start},
		"end": map[string]int{"line": 1, "column": 1, "offset": end}}, "NewText": text}})
	return fmt.Sprintf(`{"version":3,"checkpointHash":"%s","sequenceNumber":%d,"deploymentDelta":%s}`, sum, sequence, edits), result
}

func TestCheckpoint(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		u := s.startWith(stack, "update", `{"tags":{}}`)
		u.journal(success(1, 1, "dev", "a")).want(409)
		inner := `{"manifest":{"time":"2026-01-01T00:00:00Z","magic":"","version":""},"resources":[ ` + resource("dev", "a", "1") + `]}`
		for range 2 {
			u.send("PATCH", "checkpoint", `{"isInvalid":false,"version":3,"features":null,"deployment":`+inner+`}`).want(204)
		}
		u.send("PATCH", "checkpoint", `{"isInvalid":true,"version":3,"deployment":null}`).want(400)
		u.send("PATCH", "checkpoint", `{"version":3}`).want(400)
		u.send("PATCH", "checkpoint", `{"version":3,"deployment":[]}`).want(400)
		u.send("PATCH", "checkpoint", `{"version":3,"deployment":{"resources":[1]}}`).want(400)
		s.resources(stack)
		u.complete("succeeded").want(204)
		u.send("PATCH", "checkpoint", `{"version":3,"deployment":`+inner+`}`).want(409)
		if a := s.resources(stack, "a"); string(a.body) != `{"version":3,"deployment":`+inner+`}` {
			t.Errorf("exported %s", a.body)
		}
		s.do("GET", stack+"/updates/1", nil).want(200).is("info.resourceCount", "1")

		u = s.startWith(stack, "update", `{}`)
		u.send("PATCH", "checkpoint", `{"version":4,"features":["views"],"deployment":{"resources":[]}}`).want(204)
		u.complete("failed").want(204)
		if a := s.resources(stack); string(a.body) != `{"version":4,"features":["views"],"deployment":{"resources":[]}}` {
			t.Errorf("exported %s", a.body)
		}
		u = s.startWith(stack, "update", `{}`) // sends nothing
		u.complete("succeeded").want(204)
		s.resources(stack).is("version", "4")
	})
}

func TestCheckpointDelta(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		u := s.startWith(stack, "update", `{}`)
		base := deployment("dev", "a")
		body, _ := delta(base, 0, 0, "", 1, "")
		u.send("PATCH", "checkpointdelta", body).want(422) // nothing to apply it to
		u.send("PATCH", "checkpointverbatim", verbatim(base, 1)).want(204)
		u.send("PATCH", "checkpointverbatim", verbatim(deployment("dev", "late"), 1)).want(204) // ignored
		at := strings.Index(base, "id-a")
		body, second := delta(base, at, at+4, "id-ü<2>", 2, "")
		u.send("PATCH", "checkpointdelta", body).want(204)
		u.send("PATCH", "checkpointdelta", body).want(204) // repeated

		wrong, _ := delta(second, 0, 0, " ", 3, hash("other"))
		u.send("PATCH", "checkpointdelta", wrong).want(422)
		damaged, _ := delta(second, 0, 5, "", 3, "")
		u.send("PATCH", "checkpointdelta", damaged).want(400) // the hash is right, the result no deployment
		u.send("PATCH", "checkpointdelta", `{"version":3,"checkpointHash":"x","sequenceNumber":3,"deploymentDelta":[{"Span":{"start":{"offset":5},"end":{"offset":99999999}},"NewText":""}]}`).want(422)
		u.send("PATCH", "checkpointdelta", `{"version":3,"checkpointHash":"x","sequenceNumber":0,"deploymentDelta":[]}`).want(400)
		u.send("PATCH", "checkpointdelta", `{"version":3,"checkpointHash":"x","sequenceNumber":3,"deploymentDelta":"x"}`).want(400)
		third := deployment("dev", "a", "b")
		u.send("PATCH", "checkpointverbatim", verbatim(third, 3)).want(204) // the client falls back, same number
		u.send("PATCH", "checkpointverbatim", verbatim(base, 0)).want(400)

		// A killed client: the newest checkpoint stays.
		s.wait(11 * 60 * 1e9)
		if a := s.resources(stack, "a", "b"); string(a.body) != third {
			t.Errorf("exported %s", a.body)
		}
		s.open()
		list := s.bucket.List(&blob.ListOptions{})
		for count := 0; ; count++ {
			object, err := list.Next(context.Background())
			if errors.Is(err, io.EOF) {
				if count != 1 {
					t.Errorf("%d objects are left", count)
				}
				break
			}
			if err != nil || strings.Contains(object.Key, "/updates/") {
				t.Fatal(err, object.Key)
			}
		}
	})
}

// A checkpoint that could not be taken leaves the one before in place.
func TestFailedCheckpointKeepsTheOneBefore(t *testing.T) {
	s := newService(t, databasetest.SQLite(t, state.Migrations))
	stack := s.stack("web", "dev")
	u := s.startWith(stack, "update", `{}`)
	u.send("PATCH", "checkpointverbatim", verbatim(deployment("dev", "a"), 1)).want(204)
	for _, statement := range []string{
		"CREATE TRIGGER refuse BEFORE UPDATE ON updates BEGIN SELECT RAISE(FAIL, 'refused'); END", "",
		"DROP TRIGGER refuse",
	} {
		if statement == "" {
			u.send("PATCH", "checkpointverbatim", verbatim(deployment("dev", "a", "b"), 2)).want(500).says("request ID")
		} else if err := s.db.Conn(context.Background()).Exec(statement).Error; err != nil {
			t.Fatal(err)
		}
	}
	u.complete("succeeded").want(204)
	s.resources(stack, "a")
}

// Whatever overtakes what, the checkpoint with the highest number stays.
func TestCheckpointsInARace(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		for range 3 {
			u := s.startWith(stack, "update", `{}`)
			var wait sync.WaitGroup
			for i := range 16 {
				wait.Go(func() {
					u.send("PATCH", "checkpointverbatim", verbatim(deployment("dev", fmt.Sprint("r", i+1)), i+1)).want(204)
				})
			}
			wait.Wait()
			u.complete("succeeded").want(204)
			s.resources(stack, "r16")
		}
	})
}

// Only the newest checkpoint of a running update is kept.
func TestCheckpointsDoNotPileUp(t *testing.T) {
	each(t, func(s *service) {
		u := s.startWith(s.stack("web", "dev"), "update", `{}`)
		for i := range 20 {
			u.send("PATCH", "checkpointverbatim", verbatim(deployment("dev", fmt.Sprint("r", i)), i+1)).want(204)
		}
		list, count := s.bucket.List(nil), 0
		for {
			if _, err := list.Next(context.Background()); err != nil {
				break
			}
			count++
		}
		if count != 1 {
			t.Errorf("%d objects for one running update", count)
		}
	})
}

func TestEdits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := []byte(rapid.String().Draw(t, "text"))
		var edits []state.Edit
		var want bytes.Buffer
		last := 0
		for last < len(text) && rapid.Bool().Draw(t, "more") {
			start := rapid.IntRange(last, len(text)).Draw(t, "start")
			end := rapid.IntRange(start, len(text)).Draw(t, "end")
			insert := rapid.String().Draw(t, "insert")
			edits = append(edits, state.NewEdit(start, end, insert))
			want.Write(text[last:start])
			want.WriteString(insert)
			last = end
		}
		want.Write(text[last:])
		before := string(text)
		got, err := state.ApplyEdits(text, edits)
		if err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Fatalf("%q, %v, want %q", got, err, want.Bytes())
		}
		if string(text) != before {
			t.Fatal("the text was changed")
		}
	})
}

func FuzzEdits(f *testing.F) {
	f.Add([]byte("hello"), 1, 3, "x", 3, 5, "y")
	f.Add([]byte("hello"), 3, 5, "x", 1, 3, "y")
	f.Add([]byte(""), 0, 0, "x", -1, 9, "y")
	f.Add([]byte("a"), 1, 0, "x", 0, 1<<62, "")
	f.Fuzz(func(t *testing.T, text []byte, s1, e1 int, t1 string, s2, e2 int, t2 string) {
		got, err := state.ApplyEdits(text, []state.Edit{state.NewEdit(s1, e1, t1), state.NewEdit(s2, e2, t2)})
		if err != nil {
			return
		}
		for _, n := range []int{s1, e1, s2, e2} {
			if n < 0 || n > len(text) {
				t.Fatalf("an edit at %d of a text of %d bytes was applied", n, len(text))
			}
		}
		if len(got) != len(text)-(e1-s1)-(e2-s2)+len(t1)+len(t2) {
			t.Fatalf("%q", got)
		}
	})
}
