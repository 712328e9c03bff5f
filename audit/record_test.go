package audit_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// The bytes of a record never change once a release has written them: proofs are
// over exactly these.
func TestCanonicalEncoding(t *testing.T) {
	each(t, func(t *testing.T, db *database.DB, log *audit.Log) {
		at := time.Date(2100, 1, 2, 3, 4, 5, 6000, time.UTC)
		if err := db.Conn(t.Context()).Exec("INSERT INTO audit_heads (log, size, time) VALUES ('org1', 0, ?)", at.UnixMicro()).Error; err != nil {
			t.Fatal(err)
		}
		ctx := httpapi.WithRequest(t.Context(), httpapi.Request{ID: "r1", Address: "2001:db8::1", UserAgent: "pulumi/3"})
		full := audit.Event{
			Name: "stack-update-started", Actor: audit.Actor{Kind: audit.User, ID: "u1", Login: "alice", Name: "Ali\u0065\u0301 <&>\u2028\""},
			TokenID: "t1", TokenName: "laptop", SessionID: "s1", Connector: "email", Object: "acme/web/prod",
			Description: "Started an update.", Decision: audit.Allow, Rule: "organization role admin",
			Details: map[string]string{"z": "1", "a": "2", "\u20ac": "4", "\U0001f600": "3"},
			Before:  map[string]string{"level": "read"}, After: map[string]string{"level": "write"},
		}
		ref, err := log.Append(ctx, "org1", full)
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Complete(ctx, ref, audit.Outcome{Result: audit.Succeeded, Status: 200, Details: map[string]string{"version": "3"}}); err != nil {
			t.Fatal(err)
		}
		denied := audit.Event{Name: "authentication-failed", Decision: audit.Deny, Rule: "token_expired"}
		if _, err := log.AppendDone(t.Context(), "org1", denied, audit.Outcome{Result: audit.Failed, Status: 401}); err != nil {
			t.Fatal(err)
		}
		want := []string{
			`{"actor":{"id":"u1","kind":"user","login":"alice","name":"Alié <&>\""},"address":"2001:db8::1","after":{"level":"write"},"before":{"level":"read"},"connector":"email","decision":"allow","description":"Started an update.","details":{"a":"2","z":"1","€":"4","😀":"3"},"event":"stack-update-started","index":0,"kind":"event","log":"org1","object":"acme/web/prod","request":"r1","rule":"organization role admin","session":"s1","time":"2100-01-02T03:04:05.000006Z","token":{"id":"t1","name":"laptop"},"userAgent":"pulumi/3","version":1}`,
			`{"index":1,"kind":"outcome","log":"org1","of":0,"outcome":{"details":{"version":"3"},"result":"succeeded","status":200},"request":"r1","time":"2100-01-02T03:04:05.000006Z","version":1}`,
			`{"actor":{"kind":"anonymous"},"decision":"deny","event":"authentication-failed","index":2,"kind":"event","log":"org1","outcome":{"result":"failed","status":401},"rule":"token_expired","time":"2100-01-02T03:04:05.000006Z","version":1}`,
		}
		got := leaves(t, db, "org1")
		if len(got) != len(want) {
			t.Fatalf("%d records", len(got))
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("record %d\ngot  %s\nwant %s", i, got[i], want[i])
			}
		}
	})
}

// TestHostileText puts into every field what forges lines, drives terminals or
// breaks a database.
func TestHostileText(t *testing.T) {
	each(t, func(t *testing.T, db *database.DB, log *audit.Log) {
		hostile := "a\r\nb\x00c\x1b[2J\u2028\u202ed\xff\xfe\u200b\u00a0'\"}{\\" + strings.Repeat("é", 210<<10)
		facts := map[string]string{hostile: hostile, "": "nameless"}
		for i := range 200 {
			facts[strings.Repeat("k", i+1)] = "v"
		}
		e := audit.Event{
			Name: "user-login-failed", Actor: audit.Actor{Kind: hostile, ID: hostile, Login: hostile, Name: hostile},
			TokenID: hostile, TokenName: hostile, SessionID: hostile, Connector: hostile, Object: hostile,
			Description: hostile, Rule: hostile, Details: facts, Before: facts, After: facts,
		}
		ctx := httpapi.WithRequest(t.Context(), httpapi.Request{ID: hostile, Address: hostile, UserAgent: hostile})
		if _, err := log.AppendDone(ctx, "org1", e, audit.Outcome{Result: audit.Failed, Details: facts}); err != nil {
			t.Fatal(err)
		}
		leaf := leaves(t, db, "org1")[0]
		if len(leaf) > 400<<10 || strings.ContainsAny(leaf, "\r\n\x00\x1b\u2028\u202e\u200b") || !utf8.ValidString(leaf) || !norm.NFC.IsNormalString(leaf) {
			t.Errorf("the record is not one clean line: %d bytes, starts %.300q", len(leaf), leaf)
		}
		entry := list(t, log, "org1", audit.Query{User: hostile, Object: hostile})
		if len(entry) != 1 {
			t.Fatalf("%d entries: a filter does not find what it was recorded from", len(entry))
		}
		if got := entry[0].Event.Object; !strings.HasPrefix(got, "abc[2Jd\u00a0'\"}{\\é") || !strings.HasSuffix(got, "é…") || len(got) > 256 {
			t.Errorf("object %q", got)
		}
		if n := len(entry[0].Event.Details); n != 64 {
			t.Errorf("%d facts", n)
		}
	})
}

func TestEncodingIsCanonicalForAllText(t *testing.T) {
	db := databasetest.SQLite(t, audit.Migrations)
	log := open(t, db)
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		e := event(text.Draw(rt, "object"))
		e.Actor.Name, e.Details = text.Draw(rt, "name"), rapid.MapOf(text, text).Draw(rt, "details")
		name := rapid.StringMatching(`[a-z0-9]{20}`).Draw(rt, "log")
		if _, err := log.Append(t.Context(), name, e); err != nil {
			rt.Fatal(err)
		}
		got := leaves(t, db, name)
		leaf := got[len(got)-1]
		value := jsontext.Value(leaf)
		if err := value.Canonicalize(); err != nil || string(value) != leaf {
			rt.Fatalf("not canonical: %v %s", err, leaf)
		}
		entry := list(t, log, name, audit.Query{})[0]
		again, err := log.Append(t.Context(), name, entry.Event)
		if err != nil {
			rt.Fatal(err)
		}
		if twice := list(t, log, name, audit.Query{})[0]; twice.Ref != again || twice.Event.Object != entry.Event.Object || twice.Event.Actor != entry.Event.Actor {
			rt.Fatalf("cleaning twice differs from cleaning once: %+v, %+v", entry.Event, twice.Event)
		}
	})
}
