"""The code of a deployment's guard, which ends what costs money: a Lambda function by itself.

EventBridge Scheduler calls it every five minutes. It needs neither the gateway nor the scripts, and
imports only what Lambda's runtime has. `provision/infrastructure.py` puts it into the template,
without its comments: the whole template has a limit of 51,200 bytes.

Each run: endpoints whose lease is over are deleted; the month's spending is counted in
`spend/<YYYY-MM>.json`; 80 and 100 % of the cap are mailed; at 100 % all endpoints are deleted, and
the jobs of `batch --spot` and of `compile` are stopped.
"""

import json
import os
import time
from calendar import timegm

import boto3
from botocore.exceptions import ClientError

NAME, BUCKET, TOPIC = map(os.environ.get, ("NAME", "BUCKET", "TOPIC"))
CAP, DEAREST, PICTURE = (float(os.environ[key]) for key in ("CAP", "DEAREST", "PICTURE"))
PRICES = json.loads(os.environ["PRICES"])
GROUP, USD = f"easel-{NAME}", "easel:usd-per-hour"
sagemaker, scheduler, s3, sns = map(boto3.client, ("sagemaker", "scheduler", "s3", "sns"))


def tried(call, **given):
    try:
        return call(**given)
    except ClientError as error:
        print(error)
        return {"Error": error.response["Error"]["Code"]}


def handler(event, context):
    now = time.time()
    # The endpoints before their schedules: a lease is renewed before its endpoint is created.
    found = dict(endpoints())
    end(name for name in found if is_over(name, found[name], now))
    spend, place = count(found, now)
    if spend["state"] == "reached":
        end(found)
        for name in [name for name, job in spend["jobs"].items() if job["runs"]]:
            tried(sagemaker.stop_training_job, TrainingJobName=name)
    spend["mailed"] = mailed(spend["mailed"], spend["usd"])
    # Refused if another run has counted meanwhile; the next run counts what is lost.
    tried(s3.put_object, **place, Body=json.dumps(spend).encode())


def end(names):
    # SageMaker refuses while it creates or updates an endpoint; the next run tries again.
    for name in names:
        tried(sagemaker.delete_endpoint, EndpointName=name)


def endpoints():
    for page in sagemaker.get_paginator("list_endpoints").paginate(NameContains=f"{GROUP}-"):
        for each in page["Endpoints"]:
            name = each["EndpointName"]
            listed = tried(sagemaker.list_tags, ResourceArn=each["EndpointArn"])
            tags = {tag["Key"]: tag["Value"] for tag in listed.get("Tags", ())}
            seen = tags | tried(sagemaker.describe_endpoint, EndpointName=name)
            if tags.get("easel") == NAME and name.startswith(f"{GROUP}-") and "Error" not in seen:
                yield name, seen


def is_over(name, seen, now):
    # Endpoints of older versions have neither a price nor a lease.
    if "AsyncInferenceConfig" in seen or USD not in seen:
        return False
    lease = tried(scheduler.get_schedule, GroupName=GROUP, Name=name)
    if "Error" in lease:
        return lease["Error"] == "ResourceNotFoundException"
    if lease["State"] != "ENABLED":
        # Off for an endpoint without an end, whose hours are null, or by `stop`: then a caller has
        # woken the endpoint meanwhile.
        return json.loads(lease["Description"])["hours"] is not None
    # Such a text sorts by time.
    moment = time.strftime("at(%Y-%m-%dT%H:%M:%S)", time.gmtime(now))
    return lease["ScheduleExpression"] <= moment


def priced(seen):
    # How many instances there are, and what all of them cost in an hour.
    fleets = [seen, seen.get("PendingDeploymentSummary") or {}]  # during an update there are two
    dearest, current, number, usd = float(seen.get(USD, DEAREST)), "CurrentInstanceCount", 0, 0
    if seen["EndpointStatus"] == "Failed":
        fleets = []
    for each in [each for fleet in fleets for each in fleet.get("ProductionVariants", ())]:
        # A variant without a count is one that is being started.
        counts = [each[key] for key in (current, "DesiredInstanceCount") if key in each] or [1]
        pools = {
            pool["InstanceType"]: pool.get(current, 0) for pool in each.get("InstancePools", ())
        }
        known = sum(pools.values())
        # An instance whose type SageMaker does not report may be one of the dearest.
        more = max(*counts, known) - known
        number += known + more
        usd += more * dearest + sum(pools[name] * PRICES.get(name, dearest) for name in pools)
    return number, usd


def counted_jobs(before, begin, now):
    # The jobs of the month: USD, and whether they run. One can have ended since the last run; none
    # runs for more than a week.
    after, names = dict(before), {name for name in before if before[name]["runs"]}
    for kind in "batch", "compile":
        pages = sagemaker.get_paginator("list_training_jobs").paginate(
            NameContains=f"{GROUP}-{kind}-", CreationTimeAfter=now - 8 * 86400
        )
        listed = [job["TrainingJobName"] for page in pages for job in page["TrainingJobSummaries"]]
        names |= {*listed} - {*before}
    for name in names:
        job = tried(sagemaker.describe_training_job, TrainingJobName=name)
        entry = {"usd": 0} | before.get(name, {}) | {"runs": "TrainingEndTime" not in job}
        after[name] = entry
        # It costs nothing while it waits for its first instance.
        if "TrainingStartTime" in job:
            until = job.get("TrainingEndTime")
            until = until.timestamp() if until else now
            seconds = max(until - max(job["TrainingStartTime"].timestamp(), begin), 0)
            # What a spot instance costs is known at the end: less than what is counted until then.
            seconds = min(seconds, job.get("BillableTimeInSeconds", seconds))
            kind = job["ResourceConfig"]
            usd = PRICES.get(kind["InstanceType"], DEAREST) * kind.get("InstanceCount", 1)
            entry["usd"] = seconds / 3600 * usd
    return after


def count(found, now):
    month = time.strftime("%Y-%m", time.gmtime(now))
    place = {"Bucket": BUCKET, "Key": f"spend/{month}.json"}
    answer = tried(s3.get_object, **place)
    if answer.get("Error", "NoSuchKey") != "NoSuchKey":
        # Not a new month: the next run counts, with what is there.
        raise RuntimeError(answer["Error"])
    old = {} if "Error" in answer else json.load(answer["Body"])
    before, after = old.get("endpoints", {}), {}
    begin = timegm(time.strptime(month, "%Y-%m"))
    last = old.get("updated", begin)
    for name in {*before, *found}:
        entry = {"usd": 0, "usd_per_hour": 0, "instances": 0} | before.get(name, {})
        since, rate = last, entry["usd_per_hour"]
        entry["instances"] = entry["usd_per_hour"] = 0
        if seen := found.get(name):
            entry["instances"], entry["usd_per_hour"] = priced(seen)
            since = max(last, seen["CreationTime"].timestamp())
            if not old and "AsyncInferenceConfig" in seen and now - begin > 600:
                # The first run of all. What an instance that comes and goes did before is unknown.
                since = now
            # What was made since the last run is not what was there.
            rate = max(entry["usd_per_hour"], rate * (since == last))
        entry["usd"] += max(now - since, 0) / 3600 * rate
        after[name] = entry
    usd, until = old.get("pictures_usd", 0), old.get("counted_until", "")
    prefix = f"usage/records/{month}/"
    # S3 takes a signed record for a quarter of an hour, so that a later one may still arrive.
    limit = prefix + time.strftime("%dT%H%M%S", time.gmtime(now - 900))
    where = {"Bucket": BUCKET, "Prefix": prefix, "StartAfter": until or prefix}
    pages = s3.get_paginator("list_objects_v2").paginate(**where)
    for key in [each["Key"] for page in pages for each in page.get("Contents", ())]:
        if key < limit:
            usd += PICTURE
            until = key
    jobs = counted_jobs(old.get("jobs", {}), begin, now)
    hours = sum(entry["usd"] for part in (after, jobs) for entry in part.values())
    share = (hours + usd) / CAP if CAP else 0
    return {
        "month": month,
        "usd": hours + usd,
        "instances_usd": hours,
        "pictures_usd": usd,
        "cap_usd": CAP or None,
        "state": "reached" if share >= 1 else "warned" if share >= 0.8 else "under",
        "updated": max(now, last),
        "counted_until": until,
        "endpoints": after,
        "jobs": jobs,
        "mailed": old.get("mailed", []) if old.get("cap_usd") == CAP else [],
    }, place | ({"IfMatch": answer["ETag"]} if old else {"IfNoneMatch": "*"})


def mailed(done, usd):
    for percent in 80, 100:
        if TOPIC and CAP and percent not in done and usd >= CAP * percent / 100:
            text = f"{GROUP}: {percent} % of the monthly cap of {CAP:.2f} USD is spent."
            if "Error" not in tried(sns.publish, TopicArn=TOPIC, Subject="Easel", Message=text):
                done = [*done, percent]
    return done
