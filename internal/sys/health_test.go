package sys_test

import "testing"

// TestHealthParameters asks a sealed node with parameters that are good and bad.
func TestHealthParameters(t *testing.T) {
	t.Parallel()
	n := newRaftNode(t, "node1") // not initialised
	for query, want := range map[string]int{
		"": 501, "standbyok=true": 501, "standbyok": 501, "standbyok=1&perfstandbyok=false": 501, "uninitcode=299": 299,
		"standbyok=foo": 400, "perfstandbyok=foo": 400, "uninitcode=foo": 400, "standbycode=99": 400,
	} {
		n.want(want, "GET", "sys/health?"+query, "", "")
	}
}
