package identity_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database"
)

// Every secret that the directory gives out is looked for in everything that it
// leaves behind: audit records, errors, and all rows of all tables.
func TestSecretsAreNowhere(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		var secrets []string
		var texts []string
		note := func(err error) {
			texts = append(texts, fmt.Sprintf("%v %+v", err, err))
			var refusal *identity.Refusal
			if errors.As(err, &refusal) {
				texts = append(texts, fmt.Sprintf("%#v", *refusal))
			}
		}
		code, err := w.SetupCode(t.Context())
		ok(t, err)
		secrets = append(secrets, code)
		_, _, err = w.CreateFirst(t.Context(), code+"x", first)
		note(err)
		u, _, err := w.CreateFirst(t.Context(), code, first)
		ok(t, err)
		_, _, err = w.CreateFirst(t.Context(), code, first)
		note(err)
		alice := u.Principal("email")
		nonce := strings.Repeat("beef", 16)
		secrets = append(secrets, nonce)
		for i := range 3 {
			secret, session, err := w.CreateSession(t.Context(), alice.UserID, "email")
			ok(t, err)
			token, raw, err := w.CreateToken(t.Context(), alice, identity.TokenRequest{Description: "d", Nonce: nonce + strings.Repeat("0", i), Expires: w.clock.now().Add(time.Hour)})
			ok(t, err)
			secrets = append(secrets, secret, raw, raw[4:47])
			_, _, err = w.CreateToken(t.Context(), alice, identity.TokenRequest{Nonce: nonce + strings.Repeat("0", i)})
			note(err)
			for _, wrong := range []string{secret, raw, raw + "\n", secret + "x", raw[:50]} {
				_, err := w.AuthenticateToken(t.Context(), wrong)
				note(err)
				_, err = w.AuthenticateSession(t.Context(), wrong)
				note(err)
			}
			p := alice
			p.SessionID = session.ID
			switch i {
			case 0:
				ok(t, w.EndSession(t.Context(), p))
				ok(t, w.RevokeToken(t.Context(), alice, token.ID))
			case 1:
				ok(t, w.EndSessions(t.Context(), alice, alice.UserID))
			case 2:
				w.clock.advance(identity.AbsoluteTimeout)
			}
			_, err = w.AuthenticateToken(t.Context(), raw)
			note(err)
			_, err = w.AuthenticateSession(t.Context(), secret)
			note(err)
		}
		for _, e := range w.audit.entries {
			texts = append(texts, fmt.Sprintf("%+v", e))
		}
		texts = append(texts, dump(t, w.db))
		all := strings.Join(texts, "\n")
		if !strings.Contains(all, "user-login") || !strings.Contains(all, u.ID) {
			t.Fatal("the search looks in the wrong place")
		}
		for i, secret := range secrets {
			if at := strings.Index(all, secret); at >= 0 {
				t.Errorf("secret %d is in %q", i, all[max(0, at-200):at+len(secret)])
			}
		}
	})
}

// dump returns all rows of all tables.
func dump(t *testing.T, db *database.DB) string {
	t.Helper()
	query := "SELECT name FROM sqlite_master WHERE type = 'table'"
	if db.Dialect() == database.PostgreSQL {
		query = "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = current_schema()"
	}
	var tables []string
	ok(t, db.Reader(t.Context()).Raw(query).Scan(&tables).Error)
	var out strings.Builder
	for _, table := range tables {
		rows, err := db.Reader(t.Context()).Raw("SELECT * FROM " + table).Rows()
		ok(t, err)
		columns, err := rows.Columns()
		ok(t, err)
		for rows.Next() {
			values := make([]any, len(columns))
			for i := range values {
				values[i] = new(any)
			}
			ok(t, rows.Scan(values...))
			for i, column := range columns {
				value := *values[i].(*any)
				if b, isBytes := value.([]byte); isBytes {
					value = string(b)
				}
				fmt.Fprintf(&out, "%s.%s=%v\n", table, column, value)
			}
		}
		ok(t, rows.Err())
		_ = rows.Close()
	}
	if len(tables) < 8 {
		t.Fatalf("tables are %v", tables)
	}
	return out.String()
}
