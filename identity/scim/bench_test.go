package scim_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/scim"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/database/databasetest"
)

// The push of an organization: everybody, then the groups, each made empty and filled
// in portions, as identity providers do.
const (
	pushUsers   = 5000
	pushGroups  = 200
	pushMembers = 50 // of a group
	pushPortion = 25
)

func BenchmarkPush(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) {
		benchmarkPush(b, func() *database.DB { return databasetest.Open(b, databasetest.SQLiteURL(b), migrations...) })
	})
	b.Run("postgres", func(b *testing.B) {
		benchmarkPush(b, func() *database.DB { return databasetest.Open(b, databasetest.PostgresURL(b), migrations...) })
	})
}

func benchmarkPush(b *testing.B, open func() *database.DB) {
	var users, groups, plain time.Duration
	for b.Loop() {
		w := newWorld(b, open())
		c := w.organization(b, "acme")
		began := time.Now()
		ids := make([]string, pushUsers)
		for i := range ids {
			ids[i] = c.do("POST", "/Users", fmt.Sprintf(`{"schemas":[%q],"userName":"user%d@example.com","externalId":"00u%d",
				"name":{"givenName":"User","familyName":"Number %d"},"emails":[{"value":"user%d@example.com","type":"work","primary":true}],"active":true}`,
				scim.UserSchema, i, i, i, i)).is(201).id()
		}
		users += time.Since(began)
		began = time.Now()
		for g := range pushGroups {
			id := c.group(fmt.Sprintf("Group %d", g))
			for m := 0; m < pushMembers; m += pushPortion {
				values := make([]string, pushPortion)
				for i := range values {
					values[i] = fmt.Sprintf(`{"value":%q}`, ids[(g*31+m+i)%len(ids)])
				}
				c.do("PATCH", "/Groups/"+id, patch(`[{"op":"add","path":"members","value":[`+strings.Join(values, ",")+`]}]`)).is(204)
			}
		}
		groups += time.Since(began)
		began = time.Now()
		insertPlain(b, w)
		plain += time.Since(began)
	}
	n := float64(b.N)
	b.ReportMetric(pushUsers*n/users.Seconds(), "users/s")
	b.ReportMetric(pushGroups*n/groups.Seconds(), "groups/s")
	b.ReportMetric((users+groups).Seconds()/n, "s/push")
	b.ReportMetric((users+groups).Seconds()/plain.Seconds(), "x-plain")
	b.ReportMetric(0, "ns/op")
}

// insertPlain inserts rows for as many users and groups, in a transaction for each
// request of the push and with nothing checked or recorded.
func insertPlain(b *testing.B, w *world) {
	b.Helper()
	ctx := b.Context()
	o, err := w.directory.CreateOrganization(ctx, w.admin, "plain", "")
	ok(b, err)
	exec := func(ctx context.Context, query string, args ...any) {
		if err := w.db.Conn(ctx).Exec(query, args...).Error; err != nil {
			b.Fatal(err)
		}
	}
	ids := make([]string, pushUsers)
	for i := range ids {
		ids[i] = uuid.NewString()
		ok(b, w.db.Tx(ctx, func(ctx context.Context) error {
			name := fmt.Sprintf("plain%d@example.com", i)
			exec(ctx, "INSERT INTO names (folded, kind, owner) VALUES (?, 'user', ?)", fmt.Sprintf("plain%d", i), ids[i])
			exec(ctx, `INSERT INTO users (id, login, name, email, avatar_url, site_admin, disabled, generation, created, managed_by)
				VALUES (?, ?, ?, ?, '', FALSE, 0, 1, 1, ?)`, ids[i], fmt.Sprintf("plain%d", i), "User", name, o.ID)
			for _, subject := range []string{name, fmt.Sprintf("00u%d", i)} {
				exec(ctx, "INSERT INTO identities (connector, subject, user_id, created) VALUES (?, ?, ?, 1)", identity.SAMLConnector(o.ID), subject, ids[i])
			}
			exec(ctx, "INSERT INTO members (organization_id, user_id, role, created) VALUES (?, ?, 'member', 1)", o.ID, ids[i])
			exec(ctx, `INSERT INTO scim_users (user_id, organization_id, user_name, folded, external_id, display_name, display_folded, addresses, details, active, version, created, modified, deleted)
				VALUES (?, ?, ?, ?, ?, '', '', '', '{}', TRUE, 1, 1, 1, 0)`, ids[i], o.ID, name, name, fmt.Sprintf("00u%d", i))
			return nil
		}))
	}
	for g := range pushGroups {
		id, name := uuid.NewString(), fmt.Sprintf("group-%d", g)
		ok(b, w.db.Tx(ctx, func(ctx context.Context) error {
			exec(ctx, `INSERT INTO teams (id, organization_id, folded, name, display_name, description, kind, created)
				VALUES (?, ?, ?, ?, ?, '', 'scim', 1)`, id, o.ID, name, name, name)
			exec(ctx, `INSERT INTO scim_groups (team_id, organization_id, external_id, display_name, display_folded, version, created, modified)
				VALUES (?, ?, '', ?, ?, 1, 1, 1)`, id, o.ID, name, name)
			return nil
		}))
		for m := 0; m < pushMembers; m += pushPortion {
			ok(b, w.db.Tx(ctx, func(ctx context.Context) error {
				for i := range pushPortion {
					exec(ctx, "INSERT INTO team_members (team_id, user_id, role, created) VALUES (?, ?, 'member', 1)", id, ids[(g*31+m+i)%len(ids)])
				}
				return nil
			}))
		}
	}
}
