package rbac_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/rbac"
)

// many returns n rules: a tenth are members, the others grants, in organizations of
// up to 10,000 rules.
func many(n int) rbac.Rules {
	var rosters []identity.Roster
	var grants []rbac.GrantRow
	for first := 0; first < n; first += 10_000 {
		size := min(n-first, 10_000)
		id := fmt.Sprintf("o%d", first)
		roster := identity.Roster{Organization: identity.Organization{ID: id, Login: "acme-" + id}, Roles: map[string]identity.Role{}}
		for i := range size / 10 {
			roster.Roles[fmt.Sprintf("u%d", i)] = identity.RoleMember
		}
		for i := range size - size/10 {
			user := fmt.Sprintf("u%d", i%(size/10))
			grants = append(grants, rbac.GrantRow{OrgID: id, Project: fmt.Sprintf("project-%d", i/50), Stack: fmt.Sprintf("stack-%d", i%50), UserID: user, Login: user, Level: int64(rbac.Write)})
		}
		rosters = append(rosters, roster)
	}
	return rbac.NewRules(rosters, nil, grants)
}

// BenchmarkDecide asks what the last rule allows, what no rule allows, and in the
// same run casbin over the same rules.
func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		rules := many(n)
		snapshot := rbac.Compile(rules)
		reference, err := rbac.NewReference(rules)
		if err != nil {
			b.Fatal(err)
		}
		last := n - 1 - (n-1)%10_000
		size := min(n-last, 10_000)
		i := size - size/10 - 1
		user := fmt.Sprintf("u%d", i%(size/10))
		target := object(fmt.Sprintf("acme-o%d", last), fmt.Sprintf("project-%d", i/50), fmt.Sprintf("stack-%d", i%50))
		for name, permission := range map[string]rbac.Permission{"allow": "stack:write", "deny": "stack:delete"} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				start := time.Now()
				const asked = 20
				for range asked {
					if d, err := reference.Decide(user, permission, target); err != nil || d.Allow != (name == "allow") {
						b.Fatal(d, err)
					}
				}
				casbin := time.Since(start) / asked / 2 // it asks for Allow and for Visible
				b.ReportAllocs()
				for b.Loop() {
					if snapshot.Decide(user, permission, target).Allow != (name == "allow") {
						b.Fatal("wrong")
					}
				}
				b.ReportMetric(float64(casbin.Nanoseconds()), "casbin-ns")
				b.ReportMetric(float64(casbin.Nanoseconds())/(float64(b.Elapsed().Nanoseconds())/float64(b.N)), "times-faster")
			})
		}
	}
}

// BenchmarkAddGrant makes the snapshot that has one grant more.
func BenchmarkAddGrant(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			snapshot := rbac.Compile(many(n))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				row := rbac.GrantRow{OrgID: "o0", Project: "new", Stack: fmt.Sprint(i % 100), UserID: "u1", Login: "u1", Level: int64(rbac.Admin)}
				snapshot = snapshot.With(int64(i)+2, rbac.StackChange("o0", "new", row.Stack, []rbac.GrantRow{row}))
			}
		})
	}
}

// BenchmarkCompile makes a snapshot of all rules, and says how much memory it keeps.
func BenchmarkCompile(b *testing.B) {
	rules := many(100_000)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var snapshot *rbac.Snapshot
	for b.Loop() {
		snapshot = rbac.Compile(rules)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/100_000, "B/rule")
	runtime.KeepAlive(snapshot)
	runtime.KeepAlive(rules)
}

// BenchmarkStackCreated is the whole change, its commit included, with 100,000 rules.
func BenchmarkStackCreated(b *testing.B) {
	h := build(b, databasetest.SQLite(b, migrations...))
	err := h.db.Conn(b.Context()).Exec(`INSERT INTO grants (org_id, project, stack, user_id, login, level, created)
		WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99999)
		SELECT ?, 'project-' || (i / 50), 'stack-' || (i % 50), ?, 'root', 103, 1 FROM n`, h.acme.ID, h.admin.UserID).Error
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	if err := h.Reload(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Logf("reading and compiling 100,000 rules: %v", time.Since(start))
	i := 0
	for b.Loop() {
		i++
		if err := h.StackCreated(b.Context(), object("Acme", "new", fmt.Sprint(i)), h.admin.UserID); err != nil {
			b.Fatal(err)
		}
	}
}
