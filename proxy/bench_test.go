package proxy_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ipuka/ipuka/internal/httpapi"
)

// transport is what the reverse proxies below speak to the upstream with.
func transport() *http.Transport {
	return &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
}

func reverseProxy(target *url.URL) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{Transport: transport(), Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
}

// load sends n GETs from 32 clients and returns the time it took and each latency.
func load(b *testing.B, target, token string, n int) (time.Duration, []time.Duration) {
	b.Helper()
	client := &http.Client{Transport: transport()}
	latencies := make([]time.Duration, n)
	var group sync.WaitGroup
	start := time.Now()
	for worker := range 32 {
		group.Go(func() {
			for i := worker; i < n; i += 32 {
				r, err := http.NewRequest(http.MethodGet, target+stackPath, nil)
				if err != nil {
					b.Error(err)
					return
				}
				r.Header.Set("Authorization", "token "+token)
				at := time.Now()
				response, err := client.Do(r)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				if response.StatusCode != http.StatusOK {
					b.Errorf("status %d", response.StatusCode)
				}
				latencies[i] = time.Since(at)
			}
		})
	}
	group.Wait()
	took := time.Since(start)
	slices.Sort(latencies)
	return took, latencies
}

// BenchmarkGate compares authenticated, authorized GETs through the gate, with the
// state service behind a reverse proxy, with a bare reverse proxy over the same
// upstream. Reported: the gate's share of the bare proxy's throughput, and what it
// adds to the latency of a single client at the median and at the 99th percentile.
func BenchmarkGate(b *testing.B) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		httpapi.WriteJSON(w, http.StatusOK, map[string]any{"orgName": "acme", "projectName": "web", "stackName": "prod", "version": 7})
	}))
	defer upstream.Close()
	target, err := url.Parse(upstream.URL)
	if err != nil {
		b.Fatal(err)
	}
	f := newFixture(b)
	f.upstream.answer = nil
	remote := reverseProxy(target)
	gate := httptest.NewServer(f.gateOver(remote))
	defer gate.Close()
	bare := httptest.NewServer(reverseProxy(target))
	defer bare.Close()

	const round = 2000
	var gateTime, bareTime time.Duration
	var gateAlone, bareAlone []time.Duration
	load(b, gate.URL, f.tokens["rita"], 500) // warm up both
	load(b, bare.URL, f.tokens["rita"], 500)
	for b.Loop() {
		took, _ := load(b, bare.URL, f.tokens["rita"], round)
		bareTime += took
		took, _ = load(b, gate.URL, f.tokens["rita"], round)
		gateTime += took
		bareAlone = append(bareAlone, alone(b, bare.URL, f.tokens["rita"], 200)...)
		gateAlone = append(gateAlone, alone(b, gate.URL, f.tokens["rita"], 200)...)
	}
	slices.Sort(gateAlone)
	slices.Sort(bareAlone)
	b.ReportMetric(bareTime.Seconds()/gateTime.Seconds(), "of-proxy-throughput")
	b.ReportMetric(float64(b.N*round)/gateTime.Seconds(), "gate-req/s")
	b.ReportMetric(ms(percentile(gateAlone, 50)-percentile(bareAlone, 50)), "added-p50-ms")
	b.ReportMetric(ms(percentile(gateAlone, 99)-percentile(bareAlone, 99)), "added-p99-ms")
}

// alone measures one client's latencies.
func alone(b *testing.B, target, token string, n int) []time.Duration {
	b.Helper()
	client := &http.Client{Transport: transport()}
	latencies := make([]time.Duration, 0, n)
	for range n {
		r, err := http.NewRequest(http.MethodGet, target+stackPath, nil)
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("Authorization", "token "+token)
		at := time.Now()
		response, err := client.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		latencies = append(latencies, time.Since(at))
	}
	return latencies
}

func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[(len(sorted)-1)*p/100]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
